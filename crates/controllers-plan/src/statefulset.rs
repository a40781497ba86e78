//! StatefulSets: ordered pods with stable names and claims.

/// Feature gates, named as upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// `MaxUnavailableStatefulSet`: `rollingUpdate.maxUnavailable` is honoured (upstream's default from 1.37).
    pub max_unavailable: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self { max_unavailable: true }
    }
}
