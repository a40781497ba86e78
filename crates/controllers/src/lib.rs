//! One executor and a table of controllers, clients of any Kubernetes API server.
