//! `/healthz`, `/livez`, `/readyz`: one word for machines, a list for people.

use crate::query::Query;
use crate::respond;
use crate::server::Server;
use crate::status::chain;
use axum::body::Body;
use http::{Response, StatusCode};

/// GET of a health path; `None` if there is no such check.
pub(crate) async fn get(server: &Server, path: &str, query: &Query) -> Option<Response<Body>> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts
        .next()
        .filter(|endpoint| matches!(*endpoint, "healthz" | "livez" | "readyz"))?;
    let only = parts.next();
    let store = match server.store.revision().await {
        Ok(_) => Ok(()),
        Err(error) => Err(chain(&error)),
    };
    let checks: Vec<(&str, &Result<(), String>)> = [("ping", &Ok(())), ("store", &store)]
        .into_iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .collect();
    if checks.is_empty() {
        return None;
    }
    let failed = checks.iter().any(|(_, result)| result.is_err());
    let mut text = String::new();
    if failed || query.flag("verbose").is_some_and(|verbose| verbose) {
        for (name, result) in checks {
            match result {
                Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
                Err(why) => text.push_str(&format!("[-]{name} failed: {why}\n")),
            }
        }
        text.push_str(&format!(
            "{endpoint} check {}\n",
            if failed { "failed" } else { "passed" }
        ));
    } else {
        text.push_str("ok");
    }
    let code = if failed {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    Some(respond::plain(code, "text/plain; charset=utf-8", text))
}
