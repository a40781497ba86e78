//! The complete, validated configuration: command line over file over defaults. Nothing is bound before it stands.

use crate::args::ConfigArgs;
use crate::audit_log;
use crate::etcd::{self, Etcd, EtcdArgs};
use crate::feature_gates::FeatureGates;
use crate::ranges::{self, Ranges};
use anyhow::{Context, bail};
use apiserver::AuditLog;
use dns::Upstream;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// What a configuration file may say: the names of the command line's options.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    data_dir: Option<PathBuf>,
    listen: Option<SocketAddr>,
    write_kubeconfig: Option<PathBuf>,
    no_node: Option<bool>,
    container_runtime_endpoint: Option<String>,
    oci_runtime: Option<PathBuf>,
    runtime_handlers: Option<String>,
    cluster_domain: Option<String>,
    dns_upstream: Option<String>,
    node_name: Option<String>,
    node_ip: Option<String>,
    pod_cidr: Option<String>,
    service_cidr: Option<String>,
    etcd_servers: Option<Vec<String>>,
    etcd_cafile: Option<PathBuf>,
    etcd_certfile: Option<PathBuf>,
    etcd_keyfile: Option<PathBuf>,
    etcd_prefix: Option<String>,
    controllers: Option<String>,
    feature_gates: Option<String>,
    kubelet_certificate_authority: Option<PathBuf>,
    audit_log_path: Option<PathBuf>,
    audit_log_level: Option<String>,
    log: Option<String>,
}

impl File {
    fn etcd(&self) -> EtcdArgs {
        EtcdArgs {
            etcd_servers: self.etcd_servers.clone(),
            etcd_cafile: self.etcd_cafile.clone(),
            etcd_certfile: self.etcd_certfile.clone(),
            etcd_keyfile: self.etcd_keyfile.clone(),
            etcd_prefix: self.etcd_prefix.clone(),
        }
    }
}

/// Everything that `up` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Root of all that is kept.
    pub(crate) data_dir: PathBuf,
    /// Where the API server listens.
    pub(crate) listen: SocketAddr,
    /// Where the administrator's kubeconfig goes.
    pub(crate) write_kubeconfig: PathBuf,
    /// Whether pods are left to others.
    pub(crate) no_node: bool,
    /// The container runtime.
    pub(crate) runtime: Runtime,
    /// Domain of cluster names.
    pub(crate) cluster_domain: String,
    /// Who is asked for names outside of it.
    pub(crate) dns_upstream: Upstream,
    /// This node's name.
    pub(crate) node_name: String,
    /// This node's addresses, the main one first; none for those that the default routes go out from, whichever those
    /// are at the start.
    pub(crate) node_ips: Vec<IpAddr>,
    /// Addresses of pods.
    pub(crate) pod_cidrs: Ranges,
    /// Addresses of Services.
    pub(crate) service_cidrs: Ranges,
    /// Where objects are kept, if not in the data directory.
    pub(crate) etcd: Option<Etcd>,
    /// Which controllers run, in the syntax of kube-controller-manager's `--controllers`.
    pub(crate) controllers: Vec<String>,
    /// What is switched on.
    pub(crate) feature_gates: FeatureGates,
    /// CAs that must have signed kubelets' certificates; without, see [`crate::kubelets`].
    pub(crate) kubelet_certificate_authority: Option<PathBuf>,
    /// Where requests to the API server are logged, and how much of each.
    pub(crate) audit: Option<AuditLog>,
    /// Log filter; `None` leaves the choice to the command.
    pub(crate) log: Option<String>,
}

/// Who runs containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Our own runtime; `oci_runtime` names a program to call instead of our own OCI command line.
    Embedded {
        /// The program, `None` for our own.
        oci_runtime: Option<PathBuf>,
        /// Other programs, by the handlers of RuntimeClasses.
        handlers: BTreeMap<String, PathBuf>,
    },
    /// A CRI runtime behind a unix socket.
    Endpoint(String),
}

impl Config {
    /// Resolves what was typed against the configuration file and the defaults.
    ///
    /// # Errors
    /// All that is wrong at once: an unreadable or unknown entry of the file, values that make no sense.
    pub(crate) fn resolve(args: &ConfigArgs) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let mut errors = Vec::new();
        let etcd = etcd::resolve(&args.etcd, file.etcd(), &mut errors);
        let mut cidr = |name: &str, typed: &Option<String>, filed: Option<String>, default: &str| {
            let text = typed.clone().or(filed).unwrap_or_else(|| default.to_owned());
            Ranges::parse(&text)
                .map_err(|e| errors.push(format!("{name} {text:?}: {e:#}")))
                .ok()
        };
        let pod_cidrs = cidr("pod-cidr", &args.pod_cidr, file.pod_cidr, "10.244.0.0/16");
        let service_cidrs = cidr("service-cidr", &args.service_cidr, file.service_cidr, "10.96.0.0/16");
        let no_node = args.no_node || file.no_node.unwrap_or(false);
        if let (Some(pods), Some(services)) = (&pod_cidrs, &service_cidrs) {
            check_ranges(pods, services, no_node, &mut errors);
        }
        let node_ips = resolve_node_ips(args.node_ip.clone().or(file.node_ip), &mut errors);
        let cluster_domain = args.cluster_domain.clone().or(file.cluster_domain);
        let cluster_domain = cluster_domain.unwrap_or_else(|| "cluster.local".to_owned());
        check_name("cluster-domain", &cluster_domain, &mut errors);
        let dns_upstream = resolve_upstream(args.dns_upstream.clone().or(file.dns_upstream), &mut errors);
        let node_name = match args.node_name.clone().or(file.node_name) {
            Some(name) => name,
            None => host_name()?,
        };
        check_name("node-name", &node_name, &mut errors);
        let controllers = args.controllers.clone().or(file.controllers);
        let controllers = resolve_controllers(controllers.as_deref().unwrap_or("*"), &mut errors);
        let gates = args.feature_gates.clone().or(file.feature_gates).unwrap_or_default();
        let feature_gates = FeatureGates::parse(&gates, &mut errors);
        let endpoint = either(&args.container_runtime_endpoint, file.container_runtime_endpoint);
        let oci_runtime = either(&args.oci_runtime, file.oci_runtime);
        let handlers = resolve_handlers(either(&args.runtime_handlers, file.runtime_handlers), &mut errors);
        let runtime = resolve_runtime(endpoint, oci_runtime, handlers, &mut errors);
        let audit = audit_log::resolve(args, file.audit_log_path, file.audit_log_level, &mut errors);
        let data_dir = resolve_data_dir(args.data_dir.clone().or(file.data_dir))?;
        let (Some(pod_cidrs), Some(service_cidrs), true) = (pod_cidrs, service_cidrs, errors.is_empty()) else {
            bail!("the configuration is not valid:\n  {}", errors.join("\n  "));
        };
        Ok(Self {
            listen: args
                .listen
                .or(file.listen)
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 6443))),
            write_kubeconfig: args
                .write_kubeconfig
                .clone()
                .or(file.write_kubeconfig)
                .unwrap_or_else(|| data_dir.join("admin.kubeconfig")),
            no_node,
            runtime,
            cluster_domain,
            dns_upstream,
            node_name,
            node_ips,
            pod_cidrs,
            service_cidrs,
            etcd,
            controllers,
            feature_gates,
            kubelet_certificate_authority: either(
                &args.kubelet_certificate_authority,
                file.kubelet_certificate_authority,
            ),
            audit,
            log: args.log.clone().or(file.log),
            data_dir,
        })
    }

    /// Like [`Config::resolve`], with the configuration that `up` last ran with on this data directory as the file.
    ///
    /// # Errors
    /// See [`Config::resolve`].
    pub(crate) fn resolve_last(args: &ConfigArgs) -> anyhow::Result<Self> {
        let resolved = Self::resolve(args)?;
        let last = last_path(&resolved.data_dir);
        if args.config.is_some() || !last.exists() {
            return Ok(resolved);
        }
        Self::resolve(&ConfigArgs {
            config: Some(last),
            ..args.clone()
        })
    }

    /// Keeps the configuration for [`Config::resolve_last`].
    ///
    /// # Errors
    /// When the data directory cannot be written.
    pub(crate) fn remember(&self) -> anyhow::Result<()> {
        let path = last_path(&self.data_dir);
        std::fs::write(&path, self.to_yaml()).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Addresses of the DNS server: the tenth of each of the Services' ranges, as is the custom.
    pub(crate) fn cluster_dns(&self) -> Vec<IpAddr> {
        self.service_cidrs.each_nth(10)
    }

    /// The runtime's socket.
    pub(crate) fn runtime_endpoint(&self) -> String {
        match &self.runtime {
            Runtime::Embedded { .. } => format!("unix://{}", self.data_dir.join("cri.sock").display()),
            Runtime::Endpoint(endpoint) => endpoint.clone(),
        }
    }

    /// The whole configuration as a file with what each entry means; `resolve` reads it back to the same value.
    pub(crate) fn to_yaml(&self) -> String {
        let (endpoint, oci_runtime) = match &self.runtime {
            Runtime::Embedded { oci_runtime, .. } => (None, oci_runtime.as_ref().map(|p| p.display().to_string())),
            Runtime::Endpoint(endpoint) => (Some(endpoint.clone()), None),
        };
        let rows: [(&str, &str, Option<String>); 11] = [
            (
                "Where objects, volumes, images and certificates are kept.",
                "data-dir",
                Some(quoted(self.data_dir.display())),
            ),
            ("Address of the API server.", "listen", Some(quoted(self.listen))),
            (
                "Where the administrator's kubeconfig is written, mode 0600.",
                "write-kubeconfig",
                Some(quoted(self.write_kubeconfig.display())),
            ),
            (
                "Control plane only: pods are run by others.",
                "no-node",
                Some(self.no_node.to_string()),
            ),
            (
                "A CRI runtime's socket such as unix:///run/containerd/containerd.sock; without it the embedded runtime is used.",
                "container-runtime-endpoint",
                endpoint.map(quoted),
            ),
            (
                "The OCI runtime that the embedded runtime calls, such as runc; without it our own.",
                "oci-runtime",
                oci_runtime.map(quoted),
            ),
            (
                "Domain of the names of Services and pods.",
                "cluster-domain",
                Some(quoted(&self.cluster_domain)),
            ),
            ("This node's name.", "node-name", Some(quoted(&self.node_name))),
            (
                "Which controllers run: * is all, NAME one, -NAME not that one; the later entry wins.",
                "controllers",
                Some(quoted(self.controllers.join(","))),
            ),
            (
                "Feature gates by upstream's names.",
                "feature-gates",
                Some(quoted(self.feature_gates)),
            ),
            (
                "What to log: error, warn, info, debug, or per part as in info,node=debug.",
                "log",
                self.log.as_ref().map(quoted),
            ),
        ];
        rows.into_iter()
            .chain(self.address_rows())
            .chain([
                self.handlers_row(),
                upstream_row(&self.dns_upstream),
                self.kubelets_row(),
            ])
            .chain(audit_log::rows(self.audit.as_ref()))
            .chain(etcd::rows(self.etcd.as_ref()))
            .map(yaml_entry)
            .collect()
    }

    fn address_rows(&self) -> [(&'static str, &'static str, Option<String>); 3] {
        [
            (
                "This node's address, or one of each family; without it, those that the default routes go out from.",
                "node-ip",
                self.node_ips_row(),
            ),
            (
                "Addresses of pods: one range, or one of each family.",
                "pod-cidr",
                Some(quoted(&self.pod_cidrs)),
            ),
            (
                "Addresses of Services: one range, or one of each family; DNS listens on the tenth.",
                "service-cidr",
                Some(quoted(&self.service_cidrs)),
            ),
        ]
    }

    fn node_ips_row(&self) -> Option<String> {
        let texts: Vec<String> = self.node_ips.iter().map(IpAddr::to_string).collect();
        (!texts.is_empty()).then(|| quoted(texts.join(",")))
    }

    fn handlers_row(&self) -> (&'static str, &'static str, Option<String>) {
        let handlers = match &self.runtime {
            Runtime::Embedded { handlers, .. } => handlers.clone(),
            Runtime::Endpoint(_) => BTreeMap::new(),
        };
        let pairs: Vec<String> = handlers
            .iter()
            .map(|(name, path)| format!("{name}={}", path.display()))
            .collect();
        let meaning = "Other OCI runtimes for pods whose RuntimeClass has such a handler: NAME=PROGRAM,...";
        let value = (!pairs.is_empty()).then(|| quoted(pairs.join(",")));
        (meaning, "runtime-handlers", value)
    }

    fn kubelets_row(&self) -> (&'static str, &'static str, Option<String>) {
        let path = self.kubelet_certificate_authority.as_ref();
        let meaning = "CAs that must have signed kubelets' certificates.";
        let value = path.map(|path| quoted(path.display()));
        (meaning, "kubelet-certificate-authority", value)
    }
}

/// What the command line says, else what the file does.
fn either<T: Clone>(given: &Option<T>, file: Option<T>) -> Option<T> {
    given.clone().or(file)
}

fn upstream_row(upstream: &Upstream) -> (&'static str, &'static str, Option<String>) {
    let meaning = "Who is asked for names outside the cluster: a file like /etc/resolv.conf, addresses, or none.";
    (meaning, "dns-upstream", Some(quoted(upstream)))
}

/// An entry of the file, with what it means; one that is unset is a comment, so that the file stays a complete list.
fn yaml_entry((meaning, name, value): (&str, &str, Option<String>)) -> String {
    let (mark, value) = value.map_or(("# ", String::new()), |v| ("", v));
    format!("# {meaning}\n{mark}{name}: {value}\n")
}

fn last_path(data_dir: &Path) -> PathBuf {
    data_dir.join("last-config.yaml")
}

fn quoted(value: impl std::fmt::Display) -> String {
    serde_json::Value::String(value.to_string()).to_string()
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read configuration file {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("configuration file {} is not valid", path.display()))
}

fn resolve_upstream(text: Option<String>, errors: &mut Vec<String>) -> Upstream {
    let parsed = text.map_or_else(|| Ok(Upstream::default()), |text| text.parse());
    parsed.unwrap_or_else(|error| {
        errors.push(format!("dns-upstream: {error}"));
        Upstream::default()
    })
}

/// Complains of ranges that cannot go together.
fn check_ranges(pods: &Ranges, services: &Ranges, no_node: bool, errors: &mut Vec<String>) {
    if pods.overlaps(services) {
        errors.push(format!("pod-cidr {pods} and service-cidr {services} overlap"));
    }
    // Whoever runs the pods instead gives them their addresses.
    for range in services.iter().filter(|range| !no_node && !pods.has_family_of(*range)) {
        errors.push(format!(
            "service-cidr has the range {range}, but pod-cidr {pods} has none of its family: no pod could answer there"
        ));
    }
}

fn resolve_node_ips(text: Option<String>, errors: &mut Vec<String>) -> Vec<IpAddr> {
    let Some(text) = text else { return Vec::new() };
    ranges::node_addresses(&text).unwrap_or_else(|error| {
        errors.push(format!("node-ip {text:?}: {error:#}"));
        Vec::new()
    })
}

fn resolve_data_dir(dir: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let dir = dir.unwrap_or_else(|| "/var/lib/steadfast".into());
    std::path::absolute(&dir).with_context(|| format!("data-dir {}", dir.display()))
}

/// Names of handlers and their programs.
fn resolve_handlers(text: Option<String>, errors: &mut Vec<String>) -> BTreeMap<String, PathBuf> {
    let text = text.unwrap_or_default();
    let mut handlers = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((name, path)) = pair.split_once('=').filter(|(_, path)| path.starts_with('/')) else {
            errors.push(format!("runtime-handlers {pair:?} must look like crun=/usr/bin/crun"));
            continue;
        };
        check_name("runtime-handlers", name, errors);
        if handlers.insert(name.to_owned(), path.into()).is_some() {
            errors.push(format!("runtime-handlers names {name} twice"));
        }
    }
    handlers
}

fn resolve_runtime(
    endpoint: Option<String>,
    oci: Option<PathBuf>,
    handlers: BTreeMap<String, PathBuf>,
    errors: &mut Vec<String>,
) -> Runtime {
    match (endpoint, oci) {
        (Some(endpoint), oci) => {
            if !endpoint.starts_with("unix:///") {
                errors.push(format!(
                    "container-runtime-endpoint {endpoint:?} must look like unix:///path/to.sock"
                ));
            }
            if oci.is_some() {
                errors.push(
                    "oci-runtime is of the embedded runtime, it cannot go with container-runtime-endpoint".into(),
                );
            }
            if !handlers.is_empty() {
                errors.push(
                    "runtime-handlers are of the embedded runtime, they cannot go with container-runtime-endpoint"
                        .into(),
                );
            }
            Runtime::Endpoint(endpoint)
        }
        (None, oci_runtime) => Runtime::Embedded { oci_runtime, handlers },
    }
}

/// Complains unless `name` is a DNS subdomain in lower case (RFC 1123), as node names and domains must be.
pub(crate) fn check_name(option: &str, name: &str, errors: &mut Vec<String>) {
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_ok) {
        errors.push(format!(
            "{option} {name:?} must be lower-case letters, digits, '-' and '.', as in a domain name"
        ));
    }
}

/// The entries of a list of controllers; those that mean none go to `errors`.
fn resolve_controllers(list: &str, errors: &mut Vec<String>) -> Vec<String> {
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let config = controllers::Config {
        controllers: entries.map(str::to_owned).collect(),
        ..controllers::Config::default()
    };
    let unknown = config.unknown_controllers();
    errors.extend(
        unknown
            .iter()
            .map(|name| format!("controllers: no controller is called {name}")),
    );
    config.controllers
}

/// This machine's name, in lower case.
pub(crate) fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    Ok(name.to_string_lossy().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(change: impl FnOnce(&mut ConfigArgs)) -> anyhow::Result<Config> {
        let mut args = ConfigArgs {
            node_name: Some("n1".into()),
            ..ConfigArgs::default()
        };
        change(&mut args);
        Config::resolve(&args)
    }

    #[test]
    fn printed_configuration_reads_back_as_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        for config in [
            typed(|_| {}).unwrap(),
            typed(|a| {
                a.no_node = true;
                a.node_ip = Some("192.0.2.7,fd00::7".into());
                a.pod_cidr = Some("10.1.0.0/16,fd00:1::/64".into());
                a.service_cidr = Some("fd00:2::/108,10.2.0.0/16".into());
                a.log = Some("info,node=debug".into());
                a.container_runtime_endpoint = Some("unix:///run/x.sock".into());
                a.etcd.etcd_servers = Some(vec!["https://a:2379".into(), "https://b:2379".into()]);
                a.etcd.etcd_cafile = Some("/ca.pem".into());
                a.etcd.etcd_prefix = Some("/here".into());
            })
            .unwrap(),
        ] {
            std::fs::write(&path, config.to_yaml()).unwrap();
            let args = ConfigArgs {
                config: Some(path.clone()),
                ..ConfigArgs::default()
            };
            assert_eq!(Config::resolve(&args).unwrap(), config);
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, "cluster-domain: a.b\nlisten: 127.0.0.1:7000\n").unwrap();
        let config = typed(|a| {
            a.config = Some(path);
            a.cluster_domain = Some("c.d".into());
        })
        .unwrap();
        assert_eq!((config.cluster_domain.as_str(), config.listen.port()), ("c.d", 7000));
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let error = typed(|a| {
            a.pod_cidr = Some("10.1.2.3/16".into());
            a.cluster_domain = Some("Not_A.Domain".into());
            a.container_runtime_endpoint = Some("tcp://x".into());
        })
        .unwrap_err()
        .to_string();
        for part in ["pod-cidr", "cluster-domain", "container-runtime-endpoint"] {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
    }

    #[test]
    fn handlers_are_names_and_programs() {
        let handlers = |text: &str| typed(|a| a.runtime_handlers = Some(text.to_owned()));
        let config = handlers("crun=/usr/bin/crun, x=/y=z").unwrap();
        let Runtime::Embedded { handlers: found, .. } = &config.runtime else {
            panic!("{:?}", config.runtime)
        };
        assert_eq!(found["crun"], Path::new("/usr/bin/crun"));
        assert_eq!(found["x"], Path::new("/y=z"));
        assert!(
            config
                .to_yaml()
                .contains("\nruntime-handlers: \"crun=/usr/bin/crun,x=/y=z\"\n")
        );
        for wrong in ["crun", "crun=crun", "A=/b", "a=/b,a=/c"] {
            let error = handlers(wrong).unwrap_err().to_string();
            assert!(error.contains("runtime-handlers"), "{error}");
        }
    }

    #[test]
    fn overlapping_ranges_are_refused() {
        let error = typed(|a| a.pod_cidr = Some("10.96.128.0/20".into()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("overlap"), "{error}");
    }

    #[test]
    fn services_need_pods_of_their_family() {
        let six = |a: &mut ConfigArgs| a.service_cidr = Some("fd00:2::/108".into());
        let error = typed(six).unwrap_err().to_string();
        assert!(error.contains("none of its family"), "{error}");
        typed(|a| {
            six(a);
            a.no_node = true;
        })
        .unwrap();
    }

    #[test]
    fn an_unknown_entry_of_the_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.yaml");
        std::fs::write(&path, "cluster-domian: a.b\n").unwrap();
        assert!(typed(|a| a.config = Some(path)).is_err());
    }
}
