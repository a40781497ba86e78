//! `/healthz`, `/livez`, `/readyz`: one word for machines, a list for people.

use crate::query::Query;
use crate::respond;
use crate::serve::Draining;
use crate::server::Server;
use crate::status::chain;
use axum::body::Body;
use http::{Extensions, Response, StatusCode};

/// GET of a health path; `None` if there is no such check.
pub(crate) async fn get(server: &Server, path: &str, query: &Query, extensions: &Extensions) -> Option<Response<Body>> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts
        .next()
        .filter(|endpoint| matches!(*endpoint, "healthz" | "livez" | "readyz"))?;
    let only = parts.next();
    let checks = checks(server, endpoint, extensions).await;
    let checks: Vec<_> = checks
        .into_iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .collect();
    if checks.is_empty() {
        return None;
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let is_excluded = |name: &str| excluded.contains(&name);
    let failed = checks.iter().any(|(name, well)| !well && !is_excluded(name));
    let is_long = failed || query.flag("verbose").is_some_and(|verbose| verbose);
    if !is_long {
        return Some(respond::plain(StatusCode::OK, "text/plain; charset=utf-8", "ok"));
    }
    let mut text = String::new();
    for (name, well) in checks {
        text.push_str(&match well {
            _ if is_excluded(name) => format!("[+]{name} excluded: ok\n"),
            true => format!("[+]{name} ok\n"),
            // Why stands in the log: anybody may ask here.
            false => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    let verdict = if failed { "failed" } else { "passed" };
    text.push_str(&format!("{endpoint} check {verdict}\n"));
    let code = if failed {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    Some(respond::plain(code, "text/plain; charset=utf-8", text))
}

/// Checks of kube-apiserver for what here is done before the server listens, and stays so: once it answers, they are
/// well. They have upstream's names, because there are programs that look for these names: roles, classes, namespaces
/// and Services of the system are brought into the store, definitions are read from it, and every group that is served
/// has its APIService and its document.
const DONE_BEFORE: [&str; 18] = [
    "poststarthook/start-kube-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/bootstrap-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-status-available-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-discovery-controller",
];

/// The checks as `/metrics/slis` tells them.
pub(crate) async fn indicators(server: &Server, extensions: &Extensions) -> String {
    let mut text = "# HELP kubernetes_healthcheck [STABLE] Whether a check is well: 1, or 0.\n\
                    # TYPE kubernetes_healthcheck gauge\n"
        .to_owned();
    for endpoint in ["healthz", "livez", "readyz"] {
        for (name, well) in checks(server, endpoint, extensions).await {
            let well = u8::from(well);
            text.push_str(&format!(
                "kubernetes_healthcheck{{name=\"{name}\",type=\"{endpoint}\"}} {well}\n"
            ));
        }
    }
    text
}

/// What is looked at, and whether it is well.
async fn checks(server: &Server, endpoint: &str, extensions: &Extensions) -> Vec<(&'static str, bool)> {
    let store = match server.store.revision().await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(error = chain(&error), "{endpoint}: the store is not well");
            false
        }
    };
    let mut checks = vec![("ping", true), ("log", true), ("etcd", store)];
    if endpoint == "readyz" {
        checks.push(("informer-sync", true));
    }
    checks.extend(DONE_BEFORE.map(|name| (name, true)));
    if endpoint == "readyz" {
        let is_draining = extensions
            .get::<Draining>()
            .is_some_and(|Draining(token)| token.is_cancelled());
        checks.push(("shutdown", !is_draining));
    }
    checks
}
