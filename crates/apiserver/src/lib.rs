//! The Kubernetes API over HTTP on top of a store.
