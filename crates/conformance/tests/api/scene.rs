//! What an idea works with: a client, a namespace of its own, and paths into it.

use crate::calls::Api;
use anyhow::Context;
use serde_json::{Value, json};
use std::pin::Pin;

/// A promise of the API and how it is put to the test.
pub(crate) type Idea = (&'static str, fn(Scene) -> Asked);

/// A test that runs.
pub(crate) type Asked = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// A client and a namespace.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) api: Api,
    pub(crate) namespace: String,
}

impl Scene {
    /// Makes a namespace with a name of its own and waits for its ServiceAccount, which pods need.
    pub(crate) async fn new(api: &Api) -> anyhow::Result<Self> {
        let namespace = json!({"metadata": {"generateName": "idea-"}});
        let made = api.post("/api/v1/namespaces", &namespace).await?.ok()?;
        let namespace = made["metadata"]["name"].as_str().context("no name")?.to_owned();
        let scene = Self {
            api: api.clone(),
            namespace,
        };
        scene
            .until(&scene.core("serviceaccounts"), "default", |_| true)
            .await
            .context("no default ServiceAccount")?;
        Ok(scene)
    }

    /// Lets go of the namespace, without waiting until it is gone.
    pub(crate) async fn leave(&self) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        self.api.delete(&path, &Value::Null).await?.ok().map(drop)
    }

    /// The collection of a core kind in this namespace.
    pub(crate) fn core(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// The collection of a kind of `group/version` in this namespace.
    pub(crate) fn of(&self, group_version: &str, plural: &str) -> String {
        format!("/apis/{group_version}/namespaces/{}/{plural}", self.namespace)
    }

    /// A name that no other scene uses, for objects without a namespace.
    pub(crate) fn unique(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// Creates a ConfigMap.
    pub(crate) async fn map(&self, name: &str, data: &Value) -> anyhow::Result<Value> {
        let map = json!({"metadata": {"name": name}, "data": data});
        self.api.post(&self.core("configmaps"), &map).await?.ok()
    }

    /// Waits until the object `name` of a collection is as wanted, and returns it.
    pub(crate) async fn until(
        &self,
        collection: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let path = format!("{collection}?watch=true&fieldSelector=metadata.name%3D{name}");
        let events = self
            .api
            .events(&path, |event| event["type"] != "DELETED" && wanted(&event["object"]));
        let mut events = events.await.with_context(|| format!("{collection}/{name}"))?;
        Ok(events.pop().context("no event")?["object"].take())
    }

    /// Waits until the object `name` of a collection is gone.
    pub(crate) async fn until_gone(&self, collection: &str, name: &str) -> anyhow::Result<()> {
        loop {
            let answer = self.api.get(&format!("{collection}/{name}")).await?;
            if answer.code == 404 {
                return Ok(());
            }
            let seen = answer.ok()?;
            let since = seen["metadata"]["resourceVersion"].as_str().context("no version")?;
            let path = format!("{collection}?watch=true&resourceVersion={since}&fieldSelector=metadata.name%3D{name}");
            self.api
                .events(&path, |event| event["type"] == "DELETED")
                .await
                .with_context(|| format!("{collection}/{name} stays"))?;
        }
    }
}

/// The pod of a test: no node takes it, so nobody but the test writes its status.
pub(crate) fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": {"schedulerName": "nobody",
        "containers": [{"name": "c", "image": "example.com/none"}]}})
}

/// The names of a list's items.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap_or_default())
        .collect()
}
