//! The textbook walk through a StatefulSet against a running Steadfast, every step checked.
//!
//! It is a client like any other: it knows a kubeconfig and, from the `kube-dns` Service, the DNS server's address.

mod probe;

use crate::args::WalkArgs;
use crate::live::{Live, Scene, Screen, is_ready};
use crate::manifests::{self, Manifest, explain};
use anyhow::{Context, bail, ensure};
use api::k8s::api::core::v1::{Pod, Service};
use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long any single step may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a name may take to follow its pod.
const NAME_LIMIT: Duration = Duration::from_secs(5);

const NAMESPACE: &str = "default";
const PODS: [&str; 2] = ["web-0", "web-1"];

/// Walks; success only if every check held.
///
/// # Errors
/// The first check that did not hold.
pub(crate) async fn run(args: WalkArgs) -> anyhow::Result<ExitCode> {
    let config = Kubeconfig::read_from(&args.kubeconfig).context("cannot read the kubeconfig")?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let mut walk = Walk::open(Client::try_from(config)?).await?;
    walk.rollout(&args.image).await?;
    walk.names().await?;
    walk.deletion().await?;
    walk.live.screen.head("Every check held.");
    Ok(ExitCode::SUCCESS)
}

struct Walk {
    client: Client,
    live: Live,
    dns: IpAddr,
    pods: Api<Pod>,
}

impl Walk {
    async fn open(client: Client) -> anyhow::Result<Self> {
        let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
        let dns = services
            .get("kube-dns")
            .await?
            .spec
            .and_then(|s| s.cluster_ip)
            .context("kube-dns has no address")?;
        Ok(Self {
            live: Live::open(&client, NAMESPACE, "cluster.local").await?,
            pods: Api::namespaced(client.clone(), NAMESPACE),
            dns: dns.parse()?,
            client,
        })
    }

    fn screen(&mut self) -> &mut Screen {
        &mut self.live.screen
    }

    async fn rollout(&mut self, image: &str) -> anyhow::Result<()> {
        self.screen()
            .head("1. A headless Service, a StatefulSet of two, a claim for each pod");
        manifests::apply(&self.client, &sample(image)).await?;
        // Order is judged by what the watch shows: web-1 must not appear before web-0 is Ready.
        let mut out_of_order = false;
        self.live
            .until("the rollout", PATIENCE, |scene| {
                let ready = |name: &str| scene.pods.get(name).is_some_and(is_ready);
                out_of_order |= scene.pods.contains_key("web-1") && !ready("web-0");
                scene.is_rolled_out("web") && PODS.iter().all(|pod| ready(pod))
            })
            .await?;
        ensure!(!out_of_order, "web-1 was created before web-0 was Ready");
        self.screen().check("web-1 came only after web-0 was Ready");
        for pod in PODS {
            let name = self.shell(pod, "hostname").await?;
            ensure!(name.trim() == pod, "the host name in {pod} is {name:?}");
            let claim = self.live.scene.claims.get(&format!("www-{pod}"));
            let volume = claim.and_then(|c| c.spec.as_ref()?.volume_name.clone());
            ensure!(volume.is_some(), "claim www-{pod} has no volume");
            let mounts = self.shell(pod, "grep ' /www ' /proc/mounts").await?;
            ensure!(!mounts.is_empty(), "{pod} has nothing mounted at /www");
        }
        self.screen()
            .check("each pod has its own host name, and its own claim bound and mounted at /www");
        Ok(())
    }

    async fn names(&mut self) -> anyhow::Result<()> {
        self.screen().head("2. Names that follow the pods");
        let addresses = self.addresses()?;
        self.check_names(&addresses).await?;
        for pod in PODS {
            let name = format!("{pod}.nginx.{NAMESPACE}.svc.cluster.local");
            let inside = self.shell("web-0", &format!("nslookup {name}")).await?;
            ensure!(
                inside.contains(&addresses[pod].to_string()),
                "from inside web-0, {name} gives\n{inside}"
            );
        }
        self.screen()
            .check("the same from inside web-0, by its own resolv.conf");
        Ok(())
    }

    /// Each pod's name gives its address, the Service's name both, SRV the pods' names.
    async fn check_names(&mut self, addresses: &BTreeMap<&'static str, IpAddr>) -> anyhow::Result<()> {
        let service = format!("nginx.{NAMESPACE}.svc.cluster.local");
        for (pod, address) in addresses {
            let name = format!("{pod}.{service}");
            settles(&name, &vec![*address], async || probe::resolve(self.dns, &name).await).await?;
            self.live.screen.check(&format!("{name} → {address}"));
        }
        let mut all: Vec<IpAddr> = addresses.values().copied().collect();
        all.sort();
        settles(&service, &all, async || probe::resolve(self.dns, &service).await).await?;
        let srv = format!("_http._tcp.{service}");
        let targets: Vec<String> = PODS.iter().map(|pod| format!("{pod}.{service}.:80")).collect();
        settles(&srv, &targets, async || probe::service_targets(self.dns, &srv).await).await?;
        self.screen()
            .check("the Service's name gives both addresses, SRV both names");
        Ok(())
    }

    async fn deletion(&mut self) -> anyhow::Result<()> {
        self.screen()
            .head("3. A page of its own into each volume; then both pods are deleted");
        for pod in PODS {
            self.shell(pod, &format!("echo 'this is the page of {pod}' > /www/index.html"))
                .await?;
        }
        self.check_pages().await?;
        let before = self.addresses()?;
        let uids: BTreeMap<&str, Option<String>> = PODS.map(|pod| (pod, self.live.scene.pods[pod].uid())).into();
        for pod in PODS {
            self.pods.delete(pod, &DeleteParams::default()).await.map_err(explain)?;
        }
        let mut out_of_order = false;
        self.live
            .until("the pods' return", PATIENCE, |scene| {
                let renewed = |name: &str| {
                    scene
                        .pods
                        .get(name)
                        .is_some_and(|p| p.uid() != uids[name] && is_ready(p))
                };
                let exists = |name: &str| scene.pods.get(name).is_some_and(|p| p.uid() != uids[name]);
                out_of_order |= exists("web-1") && !renewed("web-0");
                PODS.iter().all(|pod| renewed(pod)) && settled(scene)
            })
            .await?;
        ensure!(
            !out_of_order,
            "the new web-1 was created before the new web-0 was Ready"
        );
        self.screen()
            .check("both came back, in order, under the same names and with the same claims");
        let after = self.addresses()?;
        for pod in PODS {
            ensure!(before[pod] != after[pod], "{pod} has the address {} again", after[pod]);
        }
        self.check_names(&after).await?;
        self.check_pages().await
    }

    /// Each pod serves the page that was written into its volume.
    async fn check_pages(&mut self) -> anyhow::Result<()> {
        for (pod, address) in self.addresses()? {
            let page = probe::page(address)
                .await
                .with_context(|| format!("{pod} at {address}"))?;
            ensure!(
                page.trim() == format!("this is the page of {pod}"),
                "{pod} serves {page:?}"
            );
            self.screen().check(&format!("{pod} serves: {}", page.trim()));
        }
        Ok(())
    }

    fn addresses(&self) -> anyhow::Result<BTreeMap<&'static str, IpAddr>> {
        PODS.into_iter()
            .map(|pod| {
                let address = self
                    .live
                    .scene
                    .address(pod)
                    .with_context(|| format!("{pod} has no address"))?;
                Ok((pod, address.parse()?))
            })
            .collect()
    }

    async fn shell(&mut self, pod: &str, script: &str) -> anyhow::Result<String> {
        let work = probe::shell(self.pods.clone(), pod.to_owned(), script.to_owned());
        self.live
            .during(work)
            .await
            .with_context(|| format!("in {pod}: {script}"))
    }
}

/// Looks until what is found is as expected: a name follows its pod within moments, not at once.
async fn settles<T: PartialEq + Debug>(
    what: &str,
    expected: &T,
    look: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let end = Instant::now() + NAME_LIMIT;
    loop {
        let found = look().await?;
        if found == *expected {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{what} gives {found:?}, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn settled(scene: &Scene) -> bool {
    scene.is_rolled_out("web") && scene.pods.len() == PODS.len()
}

/// The textbook's Service and StatefulSet.
fn sample(image: &str) -> Vec<Manifest> {
    let labels = json!({"app": "nginx"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "nginx", "labels": labels},
        "spec": {"clusterIP": "None", "selector": labels, "ports": [{"name": "http", "port": 80}]},
    });
    let container = json!({
        "name": "nginx", "image": image, "ports": [{"name": "http", "containerPort": 80}],
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
        "volumeMounts": [{"name": "www", "mountPath": "/www"}],
    });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"},
        "spec": {
            "serviceName": "nginx", "replicas": 2, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 2, "containers": [container]},
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "www"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    });
    [service, set]
        .map(|object| Manifest {
            origin: "the walk's sample".to_owned(),
            object,
        })
        .into()
}

/// Fails unless a command in a pod ended with success; `status` is what the server said of it.
fn expect_success(status: Option<api::k8s::apimachinery::pkg::apis::meta::v1::Status>) -> anyhow::Result<()> {
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(()),
        Some(status) => bail!("{}", status.message.unwrap_or_default()),
        None => bail!("the connection ended without a word on how the command ended"),
    }
}
