//! Kubernetes StatefulSets as one binary.
fn main() {}
