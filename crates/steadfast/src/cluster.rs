//! Reading a cluster, any cluster: a client from a kubeconfig, and what is known of one namespace of it.

use anyhow::{Context, bail};
use controllers_plan::why::Facts;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::core::params::ListParams;
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// A client and the namespace that is meant.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// Connects as a kubeconfig says; without one as the environment says.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read or makes no sense.
    pub(crate) async fn open(kubeconfig: Option<&Path>, namespace: Option<&str>) -> anyhow::Result<Self> {
        let config = match kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?
            }
            None => Config::infer()
                .await
                .context("no kubeconfig: give --kubeconfig or set KUBECONFIG")?,
        };
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let client = Client::try_from(config).context("cannot make a client")?;
        Ok(Self { client, namespace })
    }

    /// The path of a collection of the namespace, e.g. of `apis/apps/v1` and `statefulsets`.
    pub(crate) fn path(&self, version: &str, plural: &str) -> String {
        format!("/{version}/namespaces/{}/{plural}", self.namespace)
    }

    /// All objects of a collection.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let request = Request::new(path).list(&ListParams::default())?;
        let mut list: Value = self
            .client
            .request(request)
            .await
            .with_context(|| format!("cannot list {path}"))?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("{path} is no list"),
        }
    }

    async fn typed<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let items = self.list(path).await?.into_iter();
        let parsed: Result<Vec<T>, _> = items.map(serde_json::from_value).collect();
        parsed.with_context(|| format!("an object of {path} is not understood"))
    }

    /// Like [`Cluster::typed`]; what may not be read counts as unknown.
    async fn optional<T: DeserializeOwned>(&self, path: &str) -> Vec<T> {
        self.typed(path).await.unwrap_or_default()
    }

    /// All that explanations rest on.
    ///
    /// # Errors
    /// When sets or pods cannot be read.
    pub(crate) async fn facts(&self) -> anyhow::Result<Facts> {
        let sets = self.list(&self.path("apis/apps/v1", "statefulsets")).await?;
        let with_template = |served: Value| {
            let template = served.pointer("/spec/template").cloned().unwrap_or_default();
            Ok((serde_json::from_value(served)?, template))
        };
        let core = |plural: &str| self.path("api/v1", plural);
        Ok(Facts {
            sets: sets.into_iter().map(with_template).collect::<anyhow::Result<_>>()?,
            pods: self.typed(&core("pods")).await?,
            claims: self.optional(&core("persistentvolumeclaims")).await,
            revisions: self.optional(&self.path("apis/apps/v1", "controllerrevisions")).await,
            services: self.optional(&core("services")).await,
            events: self.optional(&core("events")).await,
            nodes: self.optional("/api/v1/nodes").await,
            classes: self.optional("/apis/storage.k8s.io/v1/storageclasses").await,
            ..Facts::default()
        })
    }
}
