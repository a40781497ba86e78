//! What parts that run alone have in common: a log on standard error, `/healthz`, `/readyz` and `/metrics`.

use anyhow::Context;
use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use std::io::IsTerminal;

/// The type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Begins to log what `filter` lets through.
///
/// # Errors
/// When `filter` is none.
pub(crate) fn start_log(filter: &str) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} is no filter such as info or info,controllers=debug"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Answers probes, and Prometheus with the text of `metrics`.
pub(crate) fn router(
    is_ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
    metrics: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Router {
    let ready = move || {
        let is_ready = is_ready();
        async move {
            match is_ready {
                true => (StatusCode::OK, "ok"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "the cluster is not known yet"),
            }
        }
    };
    let text = move || {
        let text = metrics();
        async move { ([(CONTENT_TYPE, METRICS_TYPE)], text) }
    };
    let ok = || async { "ok" };
    Router::new()
        .route("/healthz", get(ok))
        .route("/livez", get(ok))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    #[tokio::test]
    async fn health_and_metrics_are_served() {
        for (path, is_ready, status, expected) in [
            ("/healthz", false, 200, "ok"),
            ("/readyz", false, 503, "the cluster"),
            ("/readyz", true, 200, "ok"),
            ("/metrics", true, 200, "# HELP"),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let router = router(move || is_ready, || "# HELP".to_owned());
            let answer = router.oneshot(request).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(text.starts_with(expected.as_bytes()), "{path}");
        }
    }
}
