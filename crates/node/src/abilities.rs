//! What the container runtime can do, as it says itself.

use crate::runtime::{Runtime, timed};
use api::k8s::api::core::v1::{NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures};
use cri::v1;
use std::time::Duration;

const RUNTIME_TIMEOUT: Duration = Duration::from_secs(10);

/// What is told of the runtime in the Node's status. Older runtimes say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Abilities {
    /// Its handlers, by which RuntimeClasses mean them.
    pub(crate) handlers: Option<Vec<NodeRuntimeHandler>>,
    /// What it can do whatever the handler.
    pub(crate) features: Option<NodeFeatures>,
}

impl Abilities {
    /// Asks the runtime.
    pub(crate) async fn ask(runtime: &Runtime) -> Self {
        let request = timed(v1::StatusRequest { verbose: false }, RUNTIME_TIMEOUT);
        match runtime.containers.clone().status(request).await {
            Ok(answer) => Self::of(answer.into_inner()),
            Err(error) => {
                tracing::warn!(%error, "the runtime does not tell what it can");
                Self::default()
            }
        }
    }

    fn of(told: v1::StatusResponse) -> Self {
        let handler = |told: v1::RuntimeHandler| NodeRuntimeHandler {
            name: Some(told.name),
            features: told.features.map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        };
        let mut handlers: Vec<_> = told.runtime_handlers.into_iter().map(handler).collect();
        handlers.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            handlers: Some(handlers).filter(|handlers| !handlers.is_empty()),
            features: told.features.map(|features| NodeFeatures {
                supplemental_groups_policy: Some(features.supplemental_groups_policy),
            }),
        }
    }

    /// Whether what is mounted below a mount can be made read-only, too, in a pod that asks for no handler.
    pub(crate) fn recursive_read_only(&self) -> bool {
        let mut handlers = self.handlers.iter().flatten();
        let default = handlers.find(|handler| handler.name.as_deref() == Some(""));
        let features = default.and_then(|handler| handler.features.as_ref());
        features.and_then(|features| features.recursive_read_only_mounts) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_node_tells_what_its_runtime_tells() {
        let handler = |name: &str, recursive_read_only_mounts| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts,
                user_namespaces: false,
            }),
        };
        let told = v1::StatusResponse {
            runtime_handlers: vec![handler("crun", false), handler("", true)],
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                ..v1::RuntimeFeatures::default()
            }),
            ..v1::StatusResponse::default()
        };
        let abilities = Abilities::of(told);
        assert!(abilities.recursive_read_only());
        let no = |name: &str, recursive: bool| {
            json!({"name": name, "features":
            {"recursiveReadOnlyMounts": recursive, "userNamespaces": false}})
        };
        assert_eq!(json!(abilities.handlers), json!([no("", true), no("crun", false)]));
        assert_eq!(json!(abilities.features), json!({"supplementalGroupsPolicy": true}));
    }

    #[test]
    fn of_an_older_runtime_nothing_is_told() {
        let abilities = Abilities::of(v1::StatusResponse::default());
        assert_eq!(abilities, Abilities::default());
        assert!(!abilities.recursive_read_only());
    }
}
