//! What controllers are called: by their names, and by the aliases that kube-controller-manager takes as well.

/// The controller that signs certificates, where there is an authority.
pub(crate) const SIGNING: &str = "certificatesigningrequest-signing-controller";

/// Aliases that are not just the name without `-controller`.
const ALIASES: [(&str, &str); 12] = [
    ("attachdetach", crate::table::attach_detach::NAME),
    ("csrapproving", "certificatesigningrequest-approving-controller"),
    ("csrcleaner", "certificatesigningrequest-cleaner-controller"),
    ("csrsigning", SIGNING),
    ("endpoint", "endpoints-controller"),
    ("endpointslicemirroring", "endpointslice-mirroring-controller"),
    ("garbagecollector", "garbage-collector-controller"),
    ("nodelifecycle", "node-lifecycle-controller"),
    ("podgc", "pod-garbage-collector-controller"),
    ("pvc-protection", "persistentvolumeclaim-protection-controller"),
    ("pv-protection", "persistentvolume-protection-controller"),
    ("root-ca-cert-publisher", "root-ca-certificate-publisher-controller"),
];

/// Whether an entry means a controller.
pub(crate) fn is_meant(entry: &str, name: &str) -> bool {
    entry == name || name.strip_suffix("-controller") == Some(entry) || ALIASES.contains(&(entry, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_mean_the_same() {
        for entry in ["pod-garbage-collector-controller", "pod-garbage-collector", "podgc"] {
            assert!(is_meant(entry, "pod-garbage-collector-controller"), "{entry}");
        }
        assert!(!is_meant("podgc", "job-controller"));
    }
}
