//! Custom resources: watched like any other kind, from the time their definition is established until it is gone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::kinds::lasting;
use controllers_plan::{AnyObject, Kind};
use kube::core::ClusterResourceScope;
use kube::{Client, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};

use crate::cache::{Cache, Facts, MapToKeys};
use crate::caches::{Caches, Custom};
use crate::queue::Queue;
use crate::reflect;

/// A CustomResourceDefinition, without its schemas, which can be large.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    metadata: ObjectMeta,
    /// The kind in the version in which its objects are stored, and whether they are in namespaces.
    served: Option<(Kind, bool)>,
}

impl<'de> Deserialize<'de> for Definition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(deserializer)?;
        let metadata = serde_json::from_value(whole["metadata"].clone()).map_err(serde::de::Error::custom)?;
        let served = served(&whole);
        Ok(Self { metadata, served })
    }
}

/// The kind that an established definition makes.
fn served(definition: &Value) -> Option<(Kind, bool)> {
    let text = |value: &Value| value.as_str().map(lasting);
    let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
    let versions = spec["versions"].as_array()?;
    let is_served = |version: &&Value| version["served"] == true;
    let stored = versions
        .iter()
        .filter(is_served)
        .find(|version| version["storage"] == true);
    let version = stored.or_else(|| versions.iter().find(is_served))?;
    if !api::custom::is_true(definition, "Established") {
        return None;
    }
    let kind = Kind {
        group: text(&spec["group"])?,
        version: text(&version["name"])?,
        kind: text(&names["kind"])?,
        plural: text(&names["plural"])?,
    };
    Some((kind, spec["scope"] != "Cluster"))
}

impl Resource for Definition {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "CustomResourceDefinition".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        api::custom::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "customresourcedefinitions".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Keeps one cache for each custom resource that there is; `rows` listen to all of them.
pub(crate) async fn follow(
    client: Client,
    caches: Arc<Caches>,
    queue: Arc<Queue>,
    rows: Vec<(usize, MapToKeys<AnyObject>)>,
) {
    let definitions = caches.of::<Definition>();
    let mut progress = definitions.progress();
    let mut watched: BTreeMap<Kind, AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let all = definitions.all();
        let wanted: BTreeMap<Kind, bool> = all.iter().filter_map(|definition| definition.served).collect();
        watched.retain(|kind, task| {
            let stays = wanted.contains_key(kind);
            if !stays {
                task.abort();
                caches.set_custom(*kind, None);
            }
            stays
        });
        for (kind, namespaced) in wanted {
            watched.entry(kind).or_insert_with(|| {
                let cache = Arc::new(Cache::new(Facts::of_any));
                for (row, map) in &rows {
                    cache.listen(*row, *map);
                }
                let reflection = reflect::metadata(kind, cache.clone());
                caches.set_custom(kind, Some(Custom { namespaced, cache }));
                tasks.spawn(reflection(client.clone(), caches.clone(), queue.clone()))
            });
        }
        // Watches that were ended are let go of.
        while tasks.try_join_next().is_some() {}
        // The definitions' cache lives as long as the table.
        if progress.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_established_definition_names_its_kind() {
        let mut definition = json!({
            "metadata": {"name": "tabs.example.com"},
            "spec": {"group": "example.com", "scope": "Cluster",
                "versions": [{"name": "v1", "served": true}, {"name": "v2", "served": true, "storage": true}]},
            "status": {"acceptedNames": {"plural": "tabs", "kind": "Tab"}},
        });
        assert_eq!(served(&definition), None);
        definition["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
        let (kind, namespaced) = served(&definition).expect("it is established");
        assert_eq!(
            (kind.path("").as_str(), namespaced),
            ("/apis/example.com/v2/tabs", false)
        );
    }
}
