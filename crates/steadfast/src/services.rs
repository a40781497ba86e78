//! The composition root: builds each component from the configuration and runs them all in one process.
//!
//! This is the only place that knows more than one component. Components meet through standards: the Kubernetes API
//! (here without a socket), CRI over a unix socket, the kubelet API over TLS.

use crate::config::{Config, Runtime};
use crate::election::Election;
use crate::inside::{self, Inside};
use crate::kubelets;
use crate::local_disks;
use crate::node_addresses;
use crate::pki::{Authority, Leaf};
use crate::snapshot;
use anyhow::Context;
use apiserver::{ApiServer, User};
use kube::Client;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use store_embedded::EmbeddedStore;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What is logged unless asked otherwise.
pub(crate) const DEFAULT_LOG: &str =
    "info,hyper=warn,h2=warn,tower=warn,kube=warn,hickory_resolver=warn,hickory_net=warn";

/// Where clients of kubelets expect their API, if it is free.
const KUBELET_PORT: u16 = 10250;
/// As many as a kubelet takes by default.
const MAX_PODS: u32 = 110;

/// Processes and threads of a pod: more than most programs need, and few enough that one that forks without end harms
/// nobody else.
const POD_PIDS_MAX: u32 = 4096;

type Outcome = (&'static str, anyhow::Result<()>);

/// All components, running.
pub(crate) struct Services {
    /// The CA of this data directory.
    pub(crate) authority: Authority,
    /// The administrator's certificate.
    pub(crate) admin: Leaf,
    /// The API as the administrator sees it, without a socket.
    pub(crate) client: Client,
    tasks: JoinSet<Outcome>,
    shutdown: CancellationToken,
}

impl Services {
    /// Starts all components; returns as soon as the API server answers.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(crate) async fn start(config: &Config, listener: TcpListener) -> anyhow::Result<Self> {
        let authority = Authority::open(&config.data_dir.join("pki"))?;
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let listeners = Listeners {
            people: listener,
            inside: Inside::open(config).await?,
        };
        let router = start_api(config, &authority, listeners, &mut tasks, &shutdown).await?;
        let client = |user: User| Client::new(apiserver::in_process(router.clone(), user), "default");
        // Parts have the rights that roles give to their names, as they would have on any other cluster.
        let component = |name: &str| client(User::new(name, ["system:authenticated"]));
        let controllers_config = controllers::Config {
            controllers: config.controllers.clone(),
            gates: config.feature_gates.of_controllers(),
            root_ca: Some(authority.certificate_pem.clone()),
            signer: Some(authority.signer.clone()),
            ..controllers::Config::default()
        };
        let manager = component("system:kube-controller-manager");
        let election = Election::of(config);
        let run = move |client, leading| controllers::run(client, controllers_config.clone(), leading);
        let controllers = election
            .clone()
            .run("kube-controller-manager", manager, shutdown.clone(), run);
        tasks.spawn(named("controllers", controllers));
        let scheduler = component("system:kube-scheduler");
        let scheduler = election.run("kube-scheduler", scheduler, shutdown.clone(), scheduler::run);
        tasks.spawn(named("scheduler", scheduler));
        if !config.no_node {
            let node_user = format!("system:node:{}", config.node_name);
            let node_client = client(User::new(node_user, ["system:nodes", "system:authenticated"]));
            start_node(config, &authority, node_client, &mut tasks, &shutdown)?;
            let disks = local_disks::run(config, component("system:csi-provisioner"), shutdown.clone());
            tasks.spawn(named("the driver of local disks", disks));
            let dns = dns::Config {
                listen: config
                    .cluster_dns()
                    .into_iter()
                    .map(|ip| SocketAddr::new(ip, 53))
                    .collect(),
                listen_ahead: gateways(config).into_iter().map(|ip| SocketAddr::new(ip, 53)).collect(),
                cluster_domain: config.cluster_domain.clone(),
                upstream: config.dns_upstream.clone(),
                metrics: dns::Metrics::default(),
                ready: None,
            };
            tasks.spawn(named("dns", dns::run(component("system:dns"), dns, shutdown.clone())));
            let proxy = proxy::run(
                component("system:kube-proxy"),
                inside::proxy_config(config),
                shutdown.clone(),
            );
            tasks.spawn(named("the service proxy", proxy));
        }
        let admin = authority.client("steadfast-admin", "system:masters")?;
        Ok(Self {
            authority,
            admin,
            client: client(User::new("steadfast-admin", ["system:masters", "system:authenticated"])),
            tasks,
            shutdown,
        })
    }

    /// Waits for a component to end though nobody asked it to, and says which and why.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow::anyhow!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(error)) => anyhow::Error::new(error).context("a component crashed"),
            None => anyhow::anyhow!("no component runs"),
        }
    }

    /// Asks all components to end and waits for them.
    ///
    /// # Errors
    /// The first component that did not end well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            let (name, outcome) = ended?;
            outcome.with_context(|| format!("{name} did not stop well"))?;
        }
        Ok(())
    }
}

async fn named(name: &'static str, work: impl Future<Output = anyhow::Result<()>>) -> Outcome {
    (name, work.await)
}

/// Where the API server listens.
struct Listeners {
    people: TcpListener,
    inside: Inside,
}

async fn start_api(
    config: &Config,
    authority: &Authority,
    listeners: Listeners,
    tasks: &mut JoinSet<Outcome>,
    shutdown: &CancellationToken,
) -> anyhow::Result<axum::Router> {
    let store = open_store(config, tasks, shutdown).await?;
    // What this user may do on nodes is what the role bound to it says.
    let kubelet_client = authority.client("kube-apiserver-kubelet-client", "steadfast:servers")?;
    let server = ApiServer::new(
        store,
        apiserver::Config {
            service_cidrs: config.service_cidrs.iter().collect(),
            dns_ips: config.cluster_dns(),
            advertise: listeners.inside.advertise,
            volumes_path: config.data_dir.join("volumes").display().to_string(),
            kubelet_client: Some(kubelets::client_tls(
                authority,
                &kubelet_client,
                config.kubelet_certificate_authority.as_deref(),
            )?),
            token_issuer: format!("https://kubernetes.default.svc.{}", config.cluster_domain),
            token_keys: Some(Authority::token_keys(&config.data_dir.join("pki"))?),
            root_ca: Some(authority.certificate_pem.clone()),
            audit: config.audit.clone(),
            git_version: version(),
            parts: ["controller-manager", "scheduler"].map(str::to_owned).to_vec(),
            build: build(),
            gates: config.feature_gates.of_api(),
            ..apiserver::Config::default()
        },
    )
    .await
    .context("cannot start the API server")?;
    let router = server.router();
    let certificate = authority.server("kube-apiserver", &api_names(config))?;
    let tls = authority.server_tls(&certificate)?;
    for listener in [Some(listeners.people), listeners.inside.listener]
        .into_iter()
        .flatten()
    {
        let serve = apiserver::serve(listener, tls.clone(), router.clone(), shutdown.clone());
        tasks.spawn(named("the API server", async move { Ok(serve.await?) }));
    }
    Ok(router)
}

async fn open_store(
    config: &Config,
    tasks: &mut JoinSet<Outcome>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Arc<dyn store::Store>> {
    if let Some(etcd) = &config.etcd {
        return Ok(Arc::new(etcd.connect().await?));
    }
    let dir = snapshot::store_dir(config);
    let opened = dir.clone();
    let store = tokio::task::spawn_blocking(move || EmbeddedStore::open(&opened)).await?;
    let store = Arc::new(store.context("cannot open the store")?);
    let snapshots = snapshot::serve(store.clone(), dir, shutdown.clone());
    tasks.spawn(named("the snapshots", snapshots));
    Ok(store)
}

/// The names under which clients reach the API server.
fn api_names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ]
    .map(str::to_owned)
    .into();
    names.push(format!("kubernetes.default.svc.{}", config.cluster_domain));
    names.push(config.node_name.clone());
    names.extend([
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
        config.service_cidrs.nth(1).to_string(),
    ]);
    if !config.listen.ip().is_unspecified() {
        names.push(config.listen.ip().to_string());
    }
    names
}

fn start_node(
    config: &Config,
    authority: &Authority,
    client: Client,
    tasks: &mut JoinSet<Outcome>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    if let Runtime::Embedded { .. } = config.runtime {
        let serve = runtime::serve(runtime_config(config)?, shutdown.clone());
        tasks.spawn(named("the container runtime", async move { Ok(serve.await?) }));
    }
    let node_ips = node_addresses::of(config);
    let mut names = vec![config.node_name.clone()];
    names.extend(node_ips.iter().map(IpAddr::to_string));
    let certificate = authority.server(&format!("system:node:{}", config.node_name), &names)?;
    // Networks of others say themselves whose addresses are whose.
    let pod_cidrs = match config.runtime {
        Runtime::Embedded { .. } => config.pod_cidrs.iter().map(|range| range.to_string()).collect(),
        Runtime::Endpoint(_) => Vec::new(),
    };
    let node = node::Config {
        node_name: config.node_name.clone(),
        node_labels: BTreeMap::new(),
        root_dir: node_dir(config),
        log_dir: config.data_dir.join("logs"),
        runtime_endpoint: config.runtime_endpoint(),
        // As with upstream's installers, pods ask the name server by its main address.
        cluster_dns: config.cluster_dns().into_iter().take(1).collect(),
        cluster_domain: config.cluster_domain.clone(),
        resolv_conf: "/etc/resolv.conf".into(),
        listen: SocketAddr::new(node_ips[0], KUBELET_PORT),
        node_ips,
        pod_cidrs,
        tls: authority.server_tls(&certificate)?,
        max_pods: MAX_PODS,
        reserved: node::Reserved::default(),
        cgroup_root: "/steadfast".to_owned(),
        pod_pids_max: POD_PIDS_MAX,
        version: version(),
    };
    tasks.spawn(named("the node agent", node::run(client, node, shutdown.clone())));
    Ok(())
}

/// The addresses that pods of our own network have for their gateway, which is this machine.
fn gateways(config: &Config) -> Vec<IpAddr> {
    match config.runtime {
        Runtime::Embedded { .. } => config.pod_cidrs.each_nth(1),
        Runtime::Endpoint(_) => Vec::new(),
    }
}

/// What `/version` and the Node say: the version of Kubernetes whose behaviour is served, and ours behind it.
fn version() -> String {
    format!("v1.36.1+steadfast-{}", env!("CARGO_PKG_VERSION"))
}

/// What we are built from, as `build.rs` found it.
fn build() -> apiserver::Build {
    let seconds: i64 = env!("STEADFAST_SOURCE_EPOCH").parse().unwrap_or_default();
    apiserver::Build {
        commit: env!("STEADFAST_GIT_COMMIT").to_owned(),
        tree_state: env!("STEADFAST_GIT_TREE_STATE").to_owned(),
        date: jiff::Timestamp::from_second(seconds).unwrap_or_default(),
    }
}

/// Where the node agent keeps pods' files.
pub(crate) fn node_dir(config: &Config) -> PathBuf {
    config.data_dir.join("node")
}

/// The embedded runtime's configuration.
///
/// # Errors
/// When our own binary cannot be found.
pub(crate) fn runtime_config(config: &Config) -> anyhow::Result<runtime::Config> {
    let mut runtime = runtime::Config::new(&config.data_dir.join("runtime"));
    runtime.socket = config.data_dir.join("cri.sock");
    runtime.pod_cidrs = config.pod_cidrs.iter().collect();
    if let Runtime::Embedded { oci_runtime, handlers } = &config.runtime {
        if let Some(program) = oci_runtime {
            runtime.oci_runtime = runtime::OciRuntime::External(program.clone());
        }
        runtime.handlers = handlers.clone();
    }
    Ok(runtime)
}
