//! The objects that every cluster has, made at the first start and left alone afterwards.

use crate::admission::{DEFAULT_CLASS_ANNOTATION, kind};
use crate::call::Call;
use crate::create::{self, Ownership};
use crate::negotiate::Form;
use crate::options::WriteOptions;
use crate::query::Query;
use crate::server::Server;
use crate::status::Outcome;
use crate::user::User;
use api::kinds::{self, Kind};
use api::schema::FieldValidation;
use http::HeaderMap;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The name under which the fields of these objects are owned.
const MANAGER: &str = "steadfast";

/// Makes what is absent.
pub(crate) async fn run(server: &Arc<Server>) -> Outcome<()> {
    let namespaces = kind("", "namespaces");
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        ensure(server, namespaces, "", json!({"metadata": {"name": name}})).await?;
    }
    let services = kind("", "services");
    ensure(server, services, "default", own_service(server)).await?;
    publish(server).await?;
    ensure(server, services, "kube-system", dns_service(server.config.dns_ip)).await?;
    let class = local_class(&server.config.volumes_path);
    ensure(server, kind("storage.k8s.io", "storageclasses"), "", class).await?;
    if let Some(priorities) = kinds::by_resource("scheduling.k8s.io", "v1", "priorityclasses") {
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
    }
    Ok(())
}

async fn ensure(server: &Arc<Server>, kind: &'static Kind, namespace: &str, mut object: Value) -> Outcome<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or("").to_owned();
    if server.read(kind, namespace, &name).await?.is_some() {
        return Ok(());
    }
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    let user = User::new("system:apiserver", ["system:masters"]);
    let write = WriteOptions {
        dry_run: false,
        field_validation: FieldValidation::Ignore,
        field_manager: Some(MANAGER.to_owned()),
        force: None,
    };
    let path = [namespace.to_owned(), String::new(), String::new()];
    let mut call = Call::new(kind, path, user, Query::default(), HeaderMap::new(), Form::JSON, write);
    match create::insert(server, &mut call, object, Ownership::Track).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == "AlreadyExists" => Ok(()),
        Err(status) => Err(status),
    }
}

/// `default/kubernetes`: how pods find this server.
fn own_service(server: &Server) -> Value {
    let port = server.config.advertise.port();
    let first = u32::from(server.config.service_cidr.network()) + 1;
    json!({
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": Ipv4Addr::from(first).to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
        },
    })
}

/// The address behind `default/kubernetes`, unless it is one that only this machine can reach.
async fn publish(server: &Arc<Server>) -> Outcome<()> {
    let advertised = server.config.advertise;
    if advertised.ip().is_loopback() || advertised.ip().is_unspecified() {
        return Ok(());
    }
    let address_type = match advertised.ip() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let (ip, port) = (advertised.ip().to_string(), advertised.port());
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    ensure(server, kind("", "endpoints"), "default", endpoints).await?;
    let slice = json!({
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": address_type,
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    ensure(server, kind("discovery.k8s.io", "endpointslices"), "default", slice).await
}

/// `kube-system/kube-dns`: how pods find names.
fn dns_service(ip: Ipv4Addr) -> Value {
    let labels = json!({"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true",
        "kubernetes.io/name": "CoreDNS"});
    json!({
        "metadata": {"name": "kube-dns", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip.to_string(),
            "ports": [{"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
                {"name": "dns-tcp", "protocol": "TCP", "port": 53, "targetPort": 53}],
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
