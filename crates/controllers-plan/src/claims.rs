//! Binding of claims to volumes, and provisioning of local ones.
