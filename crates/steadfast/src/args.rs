//! What a person typed: the command line, nothing resolved yet.

use crate::etcd::EtcdArgs;
use clap::{Args as ClapArgs, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

const ABOUT: &str = "Kubernetes StatefulSets as one binary.

Steadfast runs stateful applications on one machine with the Kubernetes API: \
pods with stable names, claims that survive them, DNS names that follow them. \
kubectl, Helm and client libraries work unmodified.";

const EXAMPLES: &str = "First steps:
  sudo steadfast up                              start; leave it running in this terminal
  export KUBECONFIG=/var/lib/steadfast/admin.kubeconfig
  steadfast image load app.tar                   bring an image without a registry
  kubectl apply -f app.yaml                      or: steadfast up -f app.yaml
  kubectl get statefulsets,pods,pvc

To stop:
  Ctrl-C             the daemon stops, containers go on; `steadfast up` takes them over again
  steadfast down     stop and remove the containers, keep objects and volumes
  steadfast reset    remove everything, volumes too (asks first)

Each command explains itself: steadfast COMMAND --help";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "steadfast", version, about = ABOUT, after_help = EXAMPLES, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine and stay in the foreground
    Up(Box<UpArgs>),
    /// Stop the daemon and remove its containers; objects and volumes stay
    Down(DownArgs),
    /// Remove everything: containers, objects, volumes, certificates (asks first)
    Reset(ResetArgs),
    /// Bring container images in without a registry
    Image(ImageArgs),
    /// Save all objects to a file, or begin anew from one
    Snapshot(SnapshotArgs),
    /// Check that the store of a stopped daemon, or a snapshot, is undamaged
    Check(CheckArgs),
    /// Run the controllers alone, as a client of any Kubernetes API server
    Controllers(ControllersArgs),
    /// Serve the cluster's DNS names alone, as a client of any Kubernetes API server
    Dns(DnsArgs),
    /// Serve the CSI driver of local disks alone, for any node agent
    CsiLocal(CsiLocalArgs),
    /// Explain why a StatefulSet, pod or claim is not as desired, down to the root (reads any cluster)
    Why(WhyArgs),
    /// Tell what a change to a StatefulSet would do, step by step, before it is made (reads any cluster)
    Plan(PlanArgs),
    /// Walk through the textbook StatefulSet against a running Steadfast, checking every step
    #[command(hide = true)]
    Walk(WalkArgs),
}

/// Options that say where a Steadfast lives and how it is set up; a configuration file takes the same names.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct ConfigArgs {
    /// Configuration file (YAML; the same names as these options)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where objects, volumes, images and certificates are kept [default: /var/lib/steadfast]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the API server [default: 127.0.0.1:6443]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where to write the administrator's kubeconfig, mode 0600 [default: DATA_DIR/admin.kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub(crate) write_kubeconfig: Option<PathBuf>,
    /// Control plane only: pods are run by others
    #[arg(long)]
    pub(crate) no_node: bool,
    /// Use this CRI runtime, e.g. unix:///run/containerd/containerd.sock [default: the embedded runtime]
    #[arg(long, value_name = "URL")]
    pub(crate) container_runtime_endpoint: Option<String>,
    /// OCI runtime that the embedded runtime calls, e.g. runc [default: our own]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) oci_runtime: Option<PathBuf>,
    /// Other OCI runtimes for pods whose RuntimeClass has such a handler, e.g. crun=/usr/bin/crun (comma-separated)
    #[arg(long, value_name = "NAME=PROGRAM,...")]
    pub(crate) runtime_handlers: Option<String>,
    /// Domain of the names of Services and pods [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) cluster_domain: Option<String>,
    /// Who is asked for names outside the cluster: a file in the format of resolv.conf, addresses as in
    /// 192.0.2.1,192.0.2.2:5353, or none [default: /etc/resolv.conf]
    #[arg(long, value_name = "FILE|ADDRESSES|none")]
    pub(crate) dns_upstream: Option<String>,
    /// This node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// This node's address, at which pods and others reach it, or one of each family [default: those that the default
    /// routes go out from]
    #[arg(long, value_name = "ADDRESS[,ADDRESS]")]
    pub(crate) node_ip: Option<String>,
    /// Addresses of pods: one range, or one of each family as in 10.244.0.0/16,fd00:10:244::/64, the main one first
    /// [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub(crate) pod_cidr: Option<String>,
    /// Addresses of Services: one range, or one of each family as in 10.96.0.0/16,fd00:10:96::/108, that of Services
    /// which do not ask for a family first; DNS listens on the tenth [default: 10.96.0.0/16]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub(crate) service_cidr: Option<String>,
    /// Where objects are kept, if not in the data directory.
    #[command(flatten)]
    pub(crate) etcd: EtcdArgs,
    /// Which controllers run, e.g. `*,-deployment`: * is all, NAME one, -NAME not that one; the later entry wins, and an
    /// empty list is none [default: *]
    #[arg(long, value_name = "NAMES", allow_hyphen_values = true)]
    pub(crate) controllers: Option<String>,
    /// Feature gates by upstream's names, e.g. StatefulSetRecreateStrategy=true (comma-separated)
    #[arg(long, value_name = "NAME=BOOL,...")]
    pub(crate) feature_gates: Option<String>,
    /// Call only kubelets whose certificates these CAs signed [default: the cluster's CA, and kubelets that made their
    /// certificates themselves, as upstream]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubelet_certificate_authority: Option<PathBuf>,
    /// Log every request to the API server to this file, one JSON line each [default: none is logged]
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log_path: Option<PathBuf>,
    /// How much of each request: Metadata, or Request for the objects sent too (never those of Secrets and ConfigMaps)
    /// [default: Metadata]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) audit_log_level: Option<String>,
    /// What to log: error, warn, info, debug, or per part as in `info,node=debug` [default: warn with -f on a
    /// terminal, else info]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// `steadfast up`.
#[derive(Debug, ClapArgs)]
pub(crate) struct UpArgs {
    /// Set-up.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Apply these manifests when ready and show the rollout live (repeatable; - for standard input)
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Print the complete configuration, with what each value means, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
}

/// `steadfast controllers`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ControllersArgs {
    /// Kubeconfig of the cluster [default: that of the environment, or of the pod's ServiceAccount]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Which controllers run: * is all, NAME one, -NAME not that one; the later entry wins
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "*",
        allow_hyphen_values = true
    )]
    pub(crate) controllers: Vec<String>,
    /// Feature gates by upstream's names, e.g. MaxUnavailableStatefulSet=false (comma-separated)
    #[arg(long, value_name = "NAME=BOOL,...")]
    pub(crate) feature_gates: Option<String>,
    /// Work only while leading, so that several processes may stand by
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub(crate) leader_elect: bool,
    /// Namespace of the Lease that says who leads
    #[arg(long, value_name = "NS", default_value = "kube-system")]
    pub(crate) leader_elect_resource_namespace: String,
    /// Name of that Lease
    #[arg(long, value_name = "NAME", default_value = "steadfast-controllers")]
    pub(crate) leader_elect_resource_name: String,
    /// Where /healthz and /metrics are served
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10257")]
    pub(crate) listen: SocketAddr,
    /// Certificate that every namespace gets a copy of (ConfigMap kube-root-ca.crt) [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) root_ca_file: Option<PathBuf>,
    /// Certificate of the authority that signs approved CertificateSigningRequests [default: none are signed]
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub(crate) cluster_signing_cert_file: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub(crate) cluster_signing_key_file: Option<PathBuf>,
    /// What to log: error, warn, info, debug, or per part as in `info,controllers=debug` [default: info]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// `steadfast dns`.
#[derive(Debug, ClapArgs)]
pub(crate) struct DnsArgs {
    /// Kubeconfig of the cluster [default: that of the environment, or of the pod's ServiceAccount]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where DNS is served, over UDP and TCP (repeatable); an address that this machine lacks is given to it
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:53"
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// Domain of the names of Services and pods
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Who is asked for other names: a file in the format of resolv.conf, addresses as in 192.0.2.1,192.0.2.2:5353,
    /// or none
    #[arg(long, value_name = "FILE|ADDRESSES|none", default_value = "/etc/resolv.conf")]
    pub(crate) dns_upstream: dns::Upstream,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9153")]
    pub(crate) metrics_listen: SocketAddr,
    /// What to log: error, warn, info, debug, or per part as in `info,dns=debug` [default: info]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// `steadfast csi-local`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CsiLocalArgs {
    /// The socket that it serves
    #[arg(
        long,
        value_name = "URL",
        default_value = "unix:///var/lib/kubelet/plugins/local.csi.steadfast.io/csi.sock"
    )]
    pub(crate) endpoint: String,
    /// Where volumes and snapshots are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/steadfast/csi")]
    pub(crate) data_dir: PathBuf,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_id: Option<String>,
    /// Where a node agent looks for drivers, e.g. /var/lib/kubelet/plugins_registry [default: it is told of none]
    #[arg(long, value_name = "DIR")]
    pub(crate) registration_dir: Option<PathBuf>,
    /// What to log: error, warn, info, debug, or per part as in `info,csi_local=debug` [default: info]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// `steadfast down`.
#[derive(Debug, ClapArgs)]
pub(crate) struct DownArgs {
    /// Set-up.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// `steadfast reset`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ResetArgs {
    /// Set-up.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `steadfast image`.
#[derive(Debug, ClapArgs)]
pub(crate) struct ImageArgs {
    /// What to do with images.
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

/// The commands on images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Load images from OCI or `docker save` archives into the embedded runtime
    Load {
        /// Where the images are kept.
        #[command(flatten)]
        config: ConfigArgs,
        /// Archives (.tar, .tar.gz)
        #[arg(required = true, value_name = "ARCHIVE")]
        archives: Vec<PathBuf>,
    },
    /// List the images of the runtime
    List {
        /// Where the images are kept.
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// `steadfast snapshot`.
#[derive(Debug, ClapArgs)]
pub(crate) struct SnapshotArgs {
    /// What to do with snapshots.
    #[command(subcommand)]
    pub(crate) command: SnapshotCommand,
}

/// The commands on snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save all objects to a file; a running daemon goes on meanwhile
    Save {
        /// Where the objects are kept.
        #[command(flatten)]
        config: ConfigArgs,
        /// The file; it holds Secrets, and only its owner may read it
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Replace all objects by those of a snapshot; the daemon must be stopped, what was there is kept aside
    Restore {
        /// Where the objects are kept.
        #[command(flatten)]
        config: ConfigArgs,
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// `steadfast check`.
#[derive(Debug, ClapArgs)]
pub(crate) struct CheckArgs {
    /// Where the objects are kept.
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    /// Check this snapshot instead
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshot: Option<PathBuf>,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// For machines.
    Json,
}

/// Options of the commands that read any cluster and explain.
#[derive(Debug, ClapArgs)]
pub(crate) struct ReadingArgs {
    /// Namespace [default: that of the manifest, if there is one, else of the kubeconfig]
    #[arg(short, long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
    /// Kubeconfig of the cluster
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Answer in another form
    #[arg(short, long, value_name = "FORM")]
    pub(crate) output: Option<OutputFormat>,
}

/// `steadfast why`.
#[derive(Debug, ClapArgs)]
pub(crate) struct WhyArgs {
    /// What to explain: sts/NAME, pod/NAME or pvc/NAME
    #[arg(value_name = "KIND/NAME")]
    pub(crate) object: String,
    /// Where to look and how to answer.
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

/// `steadfast plan`; exit code 0: no change, 2: changes, 1: blocked.
#[derive(Debug, ClapArgs)]
pub(crate) struct PlanArgs {
    /// The StatefulSets as they are to be (repeatable; - for standard input)
    #[arg(short = 'f', long = "filename", value_name = "FILE", conflicts_with_all = ["scale", "delete"])]
    pub(crate) files: Vec<PathBuf>,
    /// Scale a StatefulSet
    #[arg(long, value_name = "SET=N", conflicts_with = "delete")]
    pub(crate) scale: Option<String>,
    /// Delete a pod
    #[arg(long, value_name = "pod/NAME")]
    pub(crate) delete: Option<String>,
    /// Where to look and how to answer.
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

/// `steadfast walk`.
#[derive(Debug, ClapArgs)]
pub(crate) struct WalkArgs {
    /// Kubeconfig of the Steadfast to walk through
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
    /// Image with a shell and a web server (busybox)
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: String,
}
