//! The StatefulSet controller against the real API server in the same process, with a model kubelet.

mod cluster;
mod scale;
mod walk;
