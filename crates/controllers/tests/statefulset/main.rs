//! The StatefulSet controller against the real API server in the same process, with a model kubelet.

#![expect(clippy::unwrap_used, reason = "what is unwrapped in a test is what the test expects")]

mod cluster;
mod scale;
mod walk;
