//! Binds pods to nodes, a client of any Kubernetes API server.
