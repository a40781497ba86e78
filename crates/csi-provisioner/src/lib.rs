//! Gives the CSI driver of one node its work: volumes are made for claims that come to this node, grow when their claims
//! ask for more, and go when their claims have left them.
//!
//! It is to drivers of single nodes what the external provisioner and resizer are to others, and keeps to their
//! protocol: annotations of claims, classes, PersistentVolumes. Which claim goes to which node is for others to say, and
//! so is binding. This crate must not know which driver it serves, nor who implements the API.
#![forbid(unsafe_code)]

mod claims;
mod driver;
mod growth;
mod provision;
mod run;
mod source;
mod volumes;

pub use run::{Config, run};
