//! Kinds whose objects nobody stores: they are made when somebody reads them.

mod component_statuses;
mod measured;
mod prometheus;
pub(crate) mod resource_metrics;

use crate::call::Call;
use crate::clock;
use crate::options::ListOptions;
use crate::respond::{self, Listing};
use crate::server::Server;
use crate::status::{Outcome, method_not_allowed};
use crate::stored::Stored;
use api::error::Status;
use api::kinds::Kind;
use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// What can be done with them.
pub(crate) const VERBS: &[&str] = &["get", "list"];

const METRICS: &str = "metrics.k8s.io";

/// The kinds.
pub(crate) static KINDS: LazyLock<[Kind; 3]> = LazyLock::new(|| {
    [
        Kind {
            short_names: &["cs"],
            ..kind("", "v1", "ComponentStatus", "componentstatuses", "componentstatus")
        },
        kind(METRICS, "v1beta1", "NodeMetrics", "nodes", ""),
        Kind {
            namespaced: true,
            ..kind(METRICS, "v1beta1", "PodMetrics", "pods", "")
        },
    ]
});

fn kind(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
) -> Kind {
    Kind {
        group,
        version,
        kind,
        plural,
        singular,
        short_names: &[],
        categories: &[],
        namespaced: false,
        schema: match kind {
            "ComponentStatus" => "io.k8s.api.core.v1.ComponentStatus",
            "NodeMetrics" => "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
            _ => "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics",
        },
        storage_group: group,
        storage_version: version,
        has_status: false,
        has_scale: false,
        has_generation: false,
        create_on_update: false,
        unconditional_update: false,
        delete_returns_object: false,
        delete_collection: false,
        acted_on: true,
        custom: None,
    }
}

/// The kind served under this path.
pub(crate) fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// GET of an object or a collection.
pub(crate) async fn read(server: &Server, call: &mut Call, verb: &str) -> Outcome<Response<Body>> {
    if !call.subresource.is_empty() || !VERBS.contains(&verb) {
        return Err(method_not_allowed());
    }
    if call.kind.kind == "ComponentStatus" {
        call.warn(["v1 ComponentStatus is deprecated in v1.19+".to_owned()]);
    }
    let options = ListOptions::of_list(&call.kind, &call.query)?;
    let objects = match call.kind.kind {
        "ComponentStatus" => component_statuses::all(server).await,
        "NodeMetrics" => resource_metrics::of_nodes(server, &call.name).await?,
        _ => resource_metrics::of_pods(server, &call.namespace, &call.name).await?,
    };
    let made = objects.iter().map(|object| Stored {
        value: Stored::encode(&call.kind, object),
        revision: 0,
    });
    if call.name.is_empty() {
        let items = made.filter(|item| options.selection.selects(item)).collect();
        let metadata = json!({});
        return respond::listing(call, Listing { items, metadata });
    }
    let wanted = |item: &Stored| item.metadata()["name"] == call.name.as_str();
    let found = made.into_iter().find(wanted);
    let found = found.ok_or_else(|| Box::new(Status::not_found(&call.kind, &call.name)))?;
    respond::object(call, StatusCode::OK, &found)
}

/// An object that is made now, called and labelled like another.
fn made_like(metadata: &Value) -> Value {
    let mut made = json!({"name": metadata["name"], "creationTimestamp": clock::now_text()});
    for field in ["namespace", "labels"] {
        if !metadata[field].is_null() {
            made[field] = metadata[field].clone();
        }
    }
    made
}
