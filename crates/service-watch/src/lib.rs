//! Services and their EndpointSlices, followed through the Kubernetes API and kept by Service.
//!
//! `dns` makes names of them and `proxy` rules; what either needs of an object is its own business, so both bring
//! their own types and functions that read them. This crate must not know what a Service is used for.

mod follow;
mod services;

pub use follow::follow;
pub use services::{Key, Services, SliceKey, Told, owner_of};
