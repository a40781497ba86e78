//! What is true of a Kubernetes object without any server: the table of served kinds, decoding against the published
//! schemas, defaulting, validation, selectors, quantities, patches, server-side apply, printer columns.
//!
//! Everything here is a pure function of its arguments. This crate must not know of HTTP, a store, a clock or chance.

pub use k8s_openapi as k8s;

pub mod apply;
pub mod certificate_requests;
pub mod columns;
pub mod continue_token;
pub mod cron;
pub mod custom;
pub mod defaults;
pub mod error;
pub mod fit;
pub mod gates;
pub mod kinds;
pub mod limit_range;
pub mod openapi;
pub mod patch;
pub mod pod_resources;
pub mod pod_security;
pub mod policy;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod schema;
pub mod selector;
pub mod strategy;
pub mod validation;
pub mod volumes;
