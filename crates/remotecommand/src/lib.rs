//! The streaming protocols of exec and attach: websocket channels (`v5.channel.k8s.io` and older) and SPDY/3.1; and
//! that of port-forward.
//!
//! Both ends are given as sessions that do not show the wire: [`accept`] turns an HTTP upgrade into a
//! [`ServerSession`], [`connect`] makes a [`ClientSession`], and [`pipe`] joins the two, which is what a proxy does.
//! The SPDY connection itself ([`spdy`]) can carry other protocols, such as port-forward.
//!
//! This crate must not know what a pod or a container is.

mod client;
mod pipe;
pub mod port_forward;
mod protocol;
pub mod reading;
mod server;
mod session;
pub mod spdy;
mod spdy_session;
pub mod status;
pub mod tunnel;
mod websocket;

pub use client::{ConnectError, Endpoint, Wire, connect};
pub use pipe::pipe;
pub use server::{Pending, Refused, accept};
pub use session::{ClientSession, Closed, Input, Output, ServerSession, SessionError, StreamOptions, TerminalSize};
