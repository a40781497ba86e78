//! The end of namespaces.
