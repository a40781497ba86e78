//! The Kubernetes API as its published conventions describe it, asked of a server of which only a kubeconfig is known.
//! So it passes on a kube-apiserver too: `STEADFAST_KUBECONFIG` names another cluster, which is then asked instead.
//!
//! The server is started once for each store. An *idea* is one promise of the API; all ideas run beside each other, each
//! in a namespace of its own. `STEADFAST_IDEAS=word` runs those with the word in their names.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod admission;
mod answers;
mod applying;
mod calls;
mod changes;
mod input;
mod lifetime;
mod lists;
mod namespaces;
mod patches;
mod pods;
mod resources;
mod samples;
mod scene;
mod subresources;
mod walk;
mod watches;

use anyhow::{Context, ensure};
use calls::Api;
use conformance::control_plane::ControlPlane;
use conformance::etcd::Etcd;
use scene::{Idea, Scene};
use std::path::Path;
use std::time::Duration;

/// How long one idea may take.
const PATIENCE: Duration = Duration::from_secs(180);

fn ideas() -> Vec<Idea> {
    [
        lists::IDEAS,
        watches::IDEAS,
        patches::IDEAS,
        applying::IDEAS,
        lifetime::IDEAS,
        namespaces::IDEAS,
        answers::IDEAS,
        subresources::IDEAS,
        pods::IDEAS,
        access::IDEAS,
        admission::IDEAS,
        input::IDEAS,
    ]
    .concat()
}

/// Asks everything of the cluster that a kubeconfig leads to, and says all that does not hold.
fn ask(kubeconfig: &Path) -> anyhow::Result<()> {
    let wanted = std::env::var("STEADFAST_IDEAS").unwrap_or_default();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let api = Api::new(kubeconfig).await?;
        let mut running = tokio::task::JoinSet::new();
        for (name, check) in ideas().into_iter().filter(|(name, _)| name.contains(&wanted)) {
            let api = api.clone();
            running.spawn(async move {
                let asked = async {
                    let scene = Scene::new(&api).await?;
                    check(scene.clone()).await?;
                    scene.leave().await
                };
                let answered = tokio::time::timeout(PATIENCE, asked).await;
                answered.context("it takes too long").flatten().context(name)
            });
        }
        if "every kind".contains(&wanted) {
            running.spawn(async move { walk::every_kind(&api).await });
        }
        let (mut count, mut wrong) = (0, Vec::new());
        while let Some(asked) = running.join_next().await {
            count += 1;
            wrong.extend(asked?.err().map(|error| format!("{error:#}")));
        }
        wrong.sort();
        ensure!(
            wrong.is_empty(),
            "{} of {count} fail:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        Ok(())
    })
}

/// Whether another cluster is to be asked; it has been then.
fn other_cluster() -> anyhow::Result<bool> {
    let Some(kubeconfig) = std::env::var_os("STEADFAST_KUBECONFIG") else {
        return Ok(false);
    };
    ask(Path::new(&kubeconfig))?;
    Ok(true)
}

#[test]
fn on_the_embedded_store() -> anyhow::Result<()> {
    if other_cluster()? {
        return Ok(());
    }
    let server = ControlPlane::alone("api")?;
    ask(&server.kubeconfig())
}

#[test]
fn on_etcd() -> anyhow::Result<()> {
    if std::env::var_os("STEADFAST_KUBECONFIG").is_some() {
        return Ok(());
    }
    let etcd = Etcd::start(1)?;
    let server = ControlPlane::start("api", &etcd, None)?;
    ask(&server.kubeconfig())
}
