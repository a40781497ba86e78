//! The kinds that discovery lists, and an object of each.

use crate::calls::Api;
use crate::samples;
use anyhow::Context;
use serde_json::{Value, json};

/// A resource as discovery lists it.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
    pub(crate) subresources: Vec<String>,
    /// The namespace that the walk's objects live in.
    pub(crate) namespace: String,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub(crate) fn everywhere(&self) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        format!("{root}/{}/{}", self.api_version(), self.plural)
    }

    pub(crate) fn collection(&self) -> String {
        if !self.namespaced {
            return self.everywhere();
        }
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        format!(
            "{root}/{}/namespaces/{}/{}",
            self.api_version(),
            self.namespace,
            self.plural
        )
    }

    /// The name of the `index`-th object; two forms of one storage must not meet.
    pub(crate) fn name(&self, index: usize) -> String {
        let name = samples::name(&self.plural, index);
        let is_second = self.group == "events.k8s.io" || (self.group == "autoscaling" && self.version == "v1");
        if is_second { format!("other-{name}") } else { name }
    }

    pub(crate) fn one(&self, index: usize) -> String {
        format!("{}/{}", self.collection(), self.name(index))
    }

    pub(crate) fn has(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// What tells this kind's objects from those of the other version or group of the same storage.
    pub(crate) fn mark(&self) -> String {
        let group = self.group.split('.').next().unwrap_or_default();
        format!("{}-{}{group}", self.plural, self.version)
    }

    pub(crate) fn selector(&self) -> String {
        format!("labelSelector=walk%3D{}", self.mark())
    }

    pub(crate) fn sample(&self, index: usize) -> anyhow::Result<Value> {
        let content = samples::content(&self.group, &self.plural, index, &self.namespace);
        let mut object = content.with_context(|| format!("no sample of {} {}", self.group, self.plural))?;
        object["apiVersion"] = json!(self.api_version());
        object["kind"] = json!(self.kind);
        object["metadata"] = json!({"name": self.name(index), "labels": {"walk": self.mark()}});
        Ok(object)
    }
}

/// All resources that objects can be made of.
pub(crate) async fn resources(api: &Api, namespace: &str) -> anyhow::Result<Vec<Resource>> {
    let mut versions = vec![(String::new(), "v1".to_owned())];
    let groups = api.get("/apis").await?.ok()?;
    for group in groups["groups"].as_array().context("no groups")? {
        for version in group["versions"].as_array().context("no versions")? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            // What is not stable yet differs from release to release; and other ideas make kinds of their own.
            if !text(&version["version"]).contains(['a', 'b']) && !text(&group["name"]).ends_with("example.com") {
                versions.push((text(&group["name"]), text(&version["version"])));
            }
        }
    }
    let mut found: Vec<Resource> = Vec::new();
    for (group, version) in versions {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        let list = api.get(&path).await?.ok()?;
        for listed in list["resources"].as_array().context("no resources")? {
            let name = listed["name"].as_str().unwrap_or_default();
            if let Some((main, part)) = name.split_once('/') {
                if let Some(main) = found.iter_mut().find(|own| own.plural == main && own.group == group) {
                    main.subresources.push(part.to_owned());
                }
                continue;
            }
            let verbs = listed["verbs"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            found.push(Resource {
                group: group.clone(),
                version: version.clone(),
                plural: name.to_owned(),
                kind: listed["kind"].as_str().unwrap_or_default().to_owned(),
                namespaced: listed["namespaced"] == true,
                verbs: verbs.map(str::to_owned).collect(),
                subresources: Vec::new(),
                namespace: namespace.to_owned(),
            });
        }
    }
    found.retain(|resource| resource.has("create") && resource.has("list") && resource.has("delete"));
    Ok(found)
}
