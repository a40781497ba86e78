//! The objects that every cluster has: made where they are absent; those that name this server are kept true.

use crate::address_ranges;
use crate::admission::{DEFAULT_CLASS_ANNOTATION, kind};
use crate::call::Call;
use crate::clock;
use crate::create::{self, Ownership};
use crate::delete::{self, DeleteOptions};
use crate::negotiate::Form;
use crate::options::WriteOptions;
use crate::query::Query;
use crate::rbac::{aggregation, default_roles};
use crate::registrations;
use crate::server::Server;
use crate::service_addresses;
use crate::status::Outcome;
use crate::stored::Stored;
use crate::update::{self, Part, Proposed};
use crate::user::User;
use api::kinds::{self, Kind, KindRef};
use api::schema::FieldValidation;
use api::strategy;
use http::HeaderMap;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The name under which the fields of these objects are owned.
const MANAGER: &str = "steadfast";

/// Whom the server's own writes come from.
pub(crate) const OWN_USER: &str = "system:apiserver";

/// How often the objects that the cluster cannot do without are looked after; upstream's figure.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Makes what is absent.
pub(crate) async fn run(server: &Arc<Server>) -> Outcome<()> {
    default_roles::reconcile(server).await?;
    let store = server.store.as_ref();
    server.access.rbac.catch_up(store).await;
    aggregation::write(server).await?;
    keep(server).await?;
    service_addresses::show_all(server).await?;
    let dns = dns_service(&server.config.dns_ips);
    ensure(server, kind("", "services"), "kube-system", dns).await?;
    let class = local_class(&server.config.volumes_path);
    ensure(server, kind("storage.k8s.io", "storageclasses"), "", class).await?;
    ensure(server, kind("storage.k8s.io", "csidrivers"), "", local_driver()).await?;
    let Some(priorities) = kinds::by_resource("scheduling.k8s.io", "v1", "priorityclasses") else {
        return Ok(());
    };
    for (name, value, what) in [
        (
            "system-cluster-critical",
            2_000_000_000,
            "must run in the cluster, but can be moved to another node if necessary",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "must not be moved from their current node",
        ),
    ] {
        let description = format!("Used for system critical pods that {what}.");
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        ensure(server, priorities, "", class).await?;
    }
    Ok(())
}

/// Looks after what the cluster cannot do without, until the server is gone.
pub(crate) async fn upkeep(server: Weak<Server>) {
    loop {
        tokio::time::sleep(UPKEEP_INTERVAL).await;
        let Some(server) = server.upgrade() else { return };
        if let Err(status) = keep(&server).await {
            tracing::warn!("the cluster's own objects cannot be kept: {}", status.message);
        }
    }
}

/// The namespaces that cannot be deleted, and how pods find this server.
async fn keep(server: &Arc<Server>) -> Outcome<()> {
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ensure(server, kind("", "namespaces"), "", json!({"metadata": {"name": name}})).await?;
    }
    ensure(server, kind("", "services"), "default", own_service(server)).await?;
    publish(server).await?;
    register(server).await
}

/// What upstream's controllers register of the server itself.
async fn register(server: &Arc<Server>) -> Outcome<()> {
    let services = registrations::api_services();
    let services = services.map(|service| ensure(server, kind("apiregistration.k8s.io", "apiservices"), "", service));
    futures::future::try_join_all(services).await?;
    let ranges = kind("networking.k8s.io", "servicecidrs");
    let own = registrations::service_ranges(&server.config.service_cidrs);
    if !ensure(server, ranges, "", own.clone()).await? {
        grow_range(server, ranges, &own).await?;
    } else {
        let mut call = own_call(ranges, "", "kubernetes");
        let ready = update::change(server, &mut call, Part::Status, |_, current| {
            let mut current = current.clone();
            current["status"] = registrations::range_status(&clock::now_text());
            Ok(Proposed::tracked(current))
        });
        ready.await?;
    }
    for level in registrations::priority_levels() {
        let levels = kind("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations");
        ensure(server, levels, "", level).await?;
    }
    for schema in registrations::flow_schemas() {
        let schemas = kind("flowcontrol.apiserver.k8s.io", "flowschemas");
        let name = schema["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if ensure(server, schemas, "", schema).await? {
            let mut call = own_call(schemas, "", &name);
            let sound = update::change(server, &mut call, Part::Status, |_, current| {
                let mut current = current.clone();
                current["status"] = registrations::schema_status(&current, &clock::now_text());
                Ok(Proposed::tracked(current))
            });
            sound.await?;
        }
    }
    Ok(())
}

/// A cluster of one family may get a second one; anything else is left for people to sort out, as upstream leaves it.
async fn grow_range(server: &Arc<Server>, ranges: &'static Kind, own: &Value) -> Outcome<()> {
    let cidrs = &own["spec"]["cidrs"];
    let Some(stored) = server.read(ranges, "", "kubernetes").await? else {
        return Ok(());
    };
    let known = Stored::from(&stored).object(ranges)?["spec"]["cidrs"].clone();
    if known == *cidrs {
        return Ok(());
    }
    if cidrs[1].is_null() || known != json!([cidrs[0]]) {
        tracing::warn!(
            %known,
            wanted = %cidrs,
            "the ServiceCIDR kubernetes is not of the configured ranges: it and the Services there are keep theirs"
        );
        return Ok(());
    }
    let mut call = own_call(ranges, "", "kubernetes");
    let grown = update::change(server, &mut call, Part::Main, |_, current| {
        let mut current = current.clone();
        current["spec"]["cidrs"] = cidrs.clone();
        Ok(Proposed::tracked(current))
    });
    grown.await.map(|_| ())
}

/// Makes an object if there is none of its name; whether it was made.
async fn ensure(server: &Arc<Server>, kind: &'static Kind, namespace: &str, mut object: Value) -> Outcome<bool> {
    let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
    if server.read(kind, namespace, &name).await?.is_some() {
        return Ok(false);
    }
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    let mut call = own_call(kind, namespace, "");
    match create::insert(server, &mut call, object, Ownership::Track).await {
        Ok(_) => Ok(true),
        Err(status) if status.reason == "AlreadyExists" => Ok(false),
        Err(status) => Err(status),
    }
}

/// A request that the server makes of itself.
pub(crate) fn own_call(kind: impl Into<KindRef>, namespace: &str, name: &str) -> Call {
    let user = User::new(OWN_USER, ["system:masters"]);
    let write = WriteOptions {
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        field_manager: Some(MANAGER.to_owned()),
        force: None,
    };
    let path = [namespace.to_owned(), name.to_owned(), String::new()];
    Call::new(kind, path, user, Query::default(), HeaderMap::new(), Form::JSON, write)
}

/// `default/kubernetes`: how pods find this server.
fn own_service(server: &Server) -> Value {
    let port = server.config.advertise.port();
    // A server without a range serves no Services; the address is then nobody's, and refused.
    let range = server.config.service_cidrs.first().copied().unwrap_or_default();
    let ip = address_ranges::first(range);
    json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "sessionAffinity": "None",
            "ipFamilies": [strategy::family(ip)], "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
        },
    })
}

/// The addresses of all servers behind `default/kubernetes`; nothing while pods can reach none of them.
async fn publish(server: &Arc<Server>) -> Outcome<()> {
    let (endpoints, slices) = (kind("", "endpoints"), kind("discovery.k8s.io", "endpointslices"));
    let peers = server.peers().await?;
    let Some(first) = peers.first() else {
        for kind in [endpoints, slices] {
            withdraw(server, kind).await?;
        }
        return Ok(());
    };
    let address_type = strategy::family(first.ip());
    let ports = json!([{"name": "https", "port": first.port(), "protocol": "TCP"}]);
    let ips = || peers.iter().map(|peer| peer.ip().to_string());
    let addresses: Vec<Value> = ips().map(|ip| json!({"ip": ip})).collect();
    let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
    let object = json!({
        "metadata": {"name": "kubernetes", "labels": labels},
        "subsets": [{"addresses": addresses, "ports": ports}],
    });
    ensure_true(server, endpoints, object, &["subsets"]).await?;
    let ready: Vec<Value> = ips()
        .map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}}))
        .collect();
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": address_type,
        "endpoints": ready,
        "ports": ports,
    });
    publish_slice(server, slices, slice).await
}

/// The family of a slice is for good, so one of another family, of an earlier configuration, makes way.
async fn publish_slice(server: &Arc<Server>, slices: &'static Kind, slice: Value) -> Outcome<()> {
    let known = match server.read(slices, "default", "kubernetes").await? {
        Some(stored) => Stored::from(&stored).object(slices)?["addressType"].clone(),
        None => Value::Null,
    };
    if known.is_null() || known == slice["addressType"] {
        return ensure_true(server, slices, slice, &["endpoints", "ports"]).await;
    }
    tracing::info!(%known, wanted = %slice["addressType"], "the EndpointSlice kubernetes gets another family");
    withdraw(server, slices).await?;
    // One that somebody keeps with a finalizer is waited for.
    ensure(server, slices, "default", slice).await.map(|_| ())
}

/// Deletes `default/kubernetes` if it is there.
async fn withdraw(server: &Arc<Server>, kind: &'static Kind) -> Outcome<()> {
    let call = own_call(kind, "default", "");
    match delete::remove(server, &call, "kubernetes", &DeleteOptions::default()).await {
        Err(status) if status.code != 404 => Err(status),
        _ => Ok(()),
    }
}

/// Makes an object in namespace `default`, or brings these fields of it up to date.
async fn ensure_true(server: &Arc<Server>, kind: &'static Kind, object: Value, fields: &[&str]) -> Outcome<()> {
    if ensure(server, kind, "default", object.clone()).await? {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    let mut call = own_call(kind, "default", name);
    let changed = update::change(server, &mut call, Part::Main, |_, current| {
        let mut current = current.clone();
        for field in fields {
            current[*field] = object[*field].clone();
        }
        Ok(Proposed::tracked(current))
    });
    changed.await.map(|_| ())
}

/// `kube-system/kube-dns`: how pods find names.
fn dns_service(ips: &[IpAddr]) -> Value {
    let policy = if ips.len() > 1 {
        "PreferDualStack"
    } else {
        "SingleStack"
    };
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true",
        "kubernetes.io/name": "CoreDNS"});
    json!({
        "metadata": {"name": "kube-dns", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": ips.first(), "clusterIPs": ips, "ipFamilyPolicy": policy,
            "ports": [{"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53}],
        },
    })
}

/// What node agents must know of our CSI driver of local disks.
fn local_driver() -> Value {
    json!({
        "metadata": {"name": "local.csi.steadfast.io"},
        "spec": {
            "attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File", "storageCapacity": false,
            "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        },
    })
}

/// The StorageClass of local volumes, which is the default one.
fn local_class(path: &str) -> Value {
    json!({
        "metadata": {"name": "standard", "annotations": {DEFAULT_CLASS_ANNOTATION: "true"}},
        "provisioner": "steadfast.io/local", "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer", "parameters": {"path": path},
    })
}
