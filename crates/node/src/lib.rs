//! The node agent: registers the machine as a Node, runs the pods bound to it through CRI as a kubelet does, and serves
//! their logs and exec sessions.
//!
//! What is to be done is decided by crate `node-plan`; this crate observes (API, runtime, probes) and acts.
//! Everything it needs after a crash is in the API and in the runtime: it has no state of its own on disk but the pods'
//! volumes. It must not know who implements the API or the runtime.
//!
//! ```text
//!  API ──watch──▶ pods ──▶ one worker per pod ──▶ plan ──▶ jobs ──▶ CRI
//!                              ▲        │
//!    runtime events, probes ───┘        └──▶ status ──▶ API
//! ```

mod abilities;
mod access;
mod cgroup;
mod cleanup;
mod config;
mod container_config;
mod csi;
mod events;
mod eviction;
mod facts;
mod hooks;
mod http;
mod image_gc;
mod images;
mod jobs;
mod lease;
mod log_file;
mod log_reader;
mod log_rotation;
mod objects;
mod pleg;
mod pods;
mod port_forward;
mod prober;
mod reclaim;
mod references;
mod registration;
mod resize;
mod run;
mod runtime;
mod sandbox_config;
mod security;
mod server;
mod stats;
mod status;
mod streaming;
mod system_logs;
mod volumes;
mod worker;

pub use cleanup::{CleanupError, mounted_below, remove_all};
pub use config::{Config, DEFAULT_CGROUP_ROOT, Reserved};
pub use run::run;
