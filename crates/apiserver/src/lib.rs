//! The Kubernetes API over HTTP on top of a store.
//!
//! One generic path serves every kind of the table in `api::kinds`: what is particular to a kind (defaults, validation,
//! what a write may touch) is a pure function in `api`; what is particular to a few resources (allocation of service
//! addresses, binding of pods, streams from a node) has a file of its own here.
//!
//! This crate must not know of controllers, schedulers or nodes other than as clients, nor of any store's insides.

mod address_ranges;
mod admission;
mod asked;
mod audit;
mod authn;
mod authz;
mod autoscalers;
mod backend;
mod binding;
mod body;
mod bootstrap;
mod call;
mod certificate_requests;
mod clock;
mod commit;
mod compaction;
mod computed;
mod config;
mod create;
mod definitions;
mod delete;
mod deletecollection;
mod discovery;
mod dispatch;
mod entrance;
mod event_lease;
mod events;
mod eviction;
mod follow;
mod get;
mod health;
mod impersonation;
mod in_flight;
mod in_process;
mod kubelet;
mod list;
mod list_body;
mod metadata;
mod metrics;
mod names;
mod negotiate;
mod node_authorizer;
mod openapi;
mod options;
mod patch;
mod path;
mod peers;
mod policies;
mod proxy;
mod query;
mod rbac;
mod registrations;
mod respond;
mod reviews;
mod scale;
mod selection;
mod serve;
mod server;
mod service_addresses;
mod status;
mod stored;
mod stream;
mod table;
mod tokens;
mod unread;
mod update;
mod user;
mod watch;
mod webhooks;

pub use audit::{AuditLevel, AuditLog};
pub use config::{Build, Config};
pub use in_process::{InProcess, in_process};
pub use serve::serve;
pub use server::{ApiServer, StartError};
pub use tokens::keys::{KeyError, TokenKeys};
pub use user::User;
