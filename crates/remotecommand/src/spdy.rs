//! SPDY/3.1 connections: many two-way streams of bytes over one connection, both sides may open them.
//!
//! Kubernetes uses this old protocol for exec, attach and port-forward after an HTTP upgrade. Pushing, priorities and
//! headers after the opening are not needed there and ignored here.
//!
//! Flow control: our windows are told and refilled as the reader takes the bytes. The other side's windows are
//! respected once it shows that it has any, because the implementation that all Kubernetes programs in Go share never
//! refills one; towards those, TCP is the only brake.

mod connection;
mod frame;
mod headers;
mod state;

pub use connection::{Connection, Incoming, Reader, Stream, Writer};
pub use headers::Headers;

use std::io;

/// Which side of the connection we are; it decides who gives out which stream numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We asked for the upgrade; our streams have odd numbers.
    Client,
    /// We accepted the upgrade; our streams have even numbers.
    Server,
}

/// Why a connection or a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("spdy connection failed")]
    Io(#[source] io::Error),
    /// A frame of another version of SPDY.
    #[error("frame of an unknown spdy version")]
    Version,
    /// A control frame without all its fields.
    #[error("spdy frame is too short")]
    TooShort,
    /// A control frame longer than any that makes sense.
    #[error("spdy frame is too long")]
    TooLong,
    /// A header block that cannot be read.
    #[error("spdy header block is damaged")]
    BadHeaders,
    /// The other side asks for answers but does not read them.
    #[error("too many spdy control frames wait to be written")]
    Flooded,
    /// The other side refused or reset the stream.
    #[error("spdy stream was reset")]
    Reset,
    /// The connection has ended.
    #[error("spdy connection is closed")]
    Closed,
}
