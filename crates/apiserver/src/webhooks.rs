//! Calls of admission webhooks: where they are, what they are sent, what they say.

use crate::admission::kind;
use crate::backend::Backend;
use crate::create::text;
use crate::server::Server;
use crate::status::{Outcome, chain};
use crate::stored::Stored;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How large an answer may be; upstream's figure for what may be stored.
const ANSWER_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The versions of reviews that are spoken.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// What a webhook says of a write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// `status` of a refusal.
    pub(crate) status: Value,
    /// A JSON patch; null if there is none.
    pub(crate) patch: Value,
    pub(crate) warnings: Vec<String>,
    pub(crate) annotations: Vec<(String, String)>,
}

/// Asks a webhook; `request` is that of the review.
///
/// # Errors
/// Why there is no answer, in words for people.
pub(crate) async fn ask(server: &Server, hook: &Value, request: &Value) -> Outcome<Result<Verdict, String>> {
    let seconds = hook["timeoutSeconds"].as_u64().unwrap_or(10);
    let config = &hook["clientConfig"];
    let (url, backend) = match place(server, config).await? {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let sep = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{sep}timeout={seconds}s");
    let Some(version) = version(hook) else {
        return Ok(Err("it takes no version of reviews that is spoken here".to_owned()));
    };
    let api_version = format!("admission.k8s.io/{version}");
    let review = json!({"kind": "AdmissionReview", "apiVersion": api_version, "request": request});
    let asked = tokio::time::timeout(Duration::from_secs(seconds), post(&backend, &url, &review)).await;
    let answer = asked.unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
    let answer = answer.map_err(|why| format!("failed to call webhook: Post {url:?}: {why}"));
    Ok(answer.and_then(|answer| read(&answer, &api_version, request)))
}

fn version(hook: &Value) -> Option<&str> {
    let mut versions = hook["admissionReviewVersions"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str);
    versions.find(|version| VERSIONS.contains(version))
}

async fn post(backend: &Backend, url: &str, review: &Value) -> Result<Value, String> {
    let uri = url
        .parse::<Uri>()
        .map_err(|error| format!("the URL cannot be read: {error}"))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::new(Body::from(review.to_string()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path
        .parse::<Uri>()
        .map_err(|error| format!("the path cannot be read: {error}"))?;
    let headers = request.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json.clone());
    headers.insert(header::ACCEPT, json);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    if let Some(host) = uri
        .authority()
        .and_then(|host| HeaderValue::try_from(host.as_str()).ok())
    {
        headers.insert(header::HOST, host);
    }
    let answer = backend.send(request).await.map_err(|error| chain(&error))?;
    let (head, body) = answer.response.into_parts();
    let read = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    drop(answer.connection);
    let bytes = read.map_err(|error| error.to_string())?.to_bytes();
    if head.status != StatusCode::OK {
        return Err(format!("unexpected status {}", head.status));
    }
    serde_json::from_slice(&bytes).map_err(|error| format!("the answer cannot be read: {error}"))
}

/// Checks an answer and takes out of it what counts.
fn read(answer: &Value, api_version: &str, request: &Value) -> Result<Verdict, String> {
    let said = &answer["response"];
    if answer["kind"] != "AdmissionReview" || answer["apiVersion"] != api_version {
        let (version, kind) = (&answer["apiVersion"], &answer["kind"]);
        return Err(format!(
            "expected webhook response of {api_version}, Kind=AdmissionReview, got {version}, {kind}"
        ));
    }
    if !said.is_object() {
        return Err("webhook response is absent".to_owned());
    }
    if said["uid"] != request["uid"] {
        let (expected, got) = (&request["uid"], &said["uid"]);
        return Err(format!("expected response.uid={expected}, got {got}"));
    }
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let annotations = said["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Verdict {
        allowed: said["allowed"] == true,
        status: said["status"].clone(),
        patch: patch(said)?,
        warnings: texts(&said["warnings"]),
        annotations: annotations
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

fn patch(said: &Value) -> Result<Value, String> {
    let Some(encoded) = text(&said["patch"]) else {
        return Ok(Value::Null);
    };
    if said["patchType"] != "JSONPatch" {
        let given = &said["patchType"];
        return Err(format!(
            "webhook returned response.patch but with an unknown response.patchType {given}"
        ));
    }
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|error| format!("response.patch cannot be read: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("response.patch cannot be read: {error}"))
}

/// The URL of a webhook, and the server behind it.
async fn place(server: &Server, config: &Value) -> Outcome<Result<(String, Backend), String>> {
    let tls = match tls(&config["caBundle"]) {
        Ok(tls) => Some(tls),
        Err(why) => return Ok(Err(why)),
    };
    let service = &config["service"];
    if service.is_null() {
        let url = text(&config["url"]).unwrap_or_default();
        let uri = match url.parse::<Uri>() {
            Ok(uri) => uri,
            Err(error) => return Ok(Err(format!("the URL cannot be read: {error}"))),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        return Ok(Ok((
            url.to_owned(),
            Backend {
                host,
                port,
                tls,
                server_name: None,
            },
        )));
    }
    let part = |field: &str| text(&service[field]).unwrap_or_default();
    let port = service["port"].as_u64().unwrap_or(443);
    let name = format!("{}.{}.svc", part("name"), part("namespace"));
    let path = text(&service["path"]).filter(|path| !path.is_empty()).unwrap_or("/");
    let found = endpoint(server, part("namespace"), part("name"), port).await?;
    Ok(found.map(|(host, number)| {
        let backend = Backend {
            host,
            port: number,
            tls,
            server_name: Some(name.clone()),
        };
        (format!("https://{name}:{port}{path}"), backend)
    }))
}

/// One of what is ready behind a Service, by chance.
async fn endpoint(server: &Server, namespace: &str, name: &str, port: u64) -> Outcome<Result<(String, u16), String>> {
    let (services, slices) = (kind("", "services"), kind("discovery.k8s.io", "endpointslices"));
    let Some(kv) = server.read(services, namespace, name).await? else {
        return Ok(Err(format!("service {name:?} not found")));
    };
    let service = Stored::from(&kv).object(services)?;
    if service["spec"]["type"] == "ExternalName" {
        let host = text(&service["spec"]["externalName"]).unwrap_or_default().to_owned();
        return Ok(Ok((host, u16::try_from(port).unwrap_or(443))));
    }
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(port_name) = ports
        .find(|declared| declared["port"].as_u64() == Some(port))
        .map(|port| &port["name"])
    else {
        return Ok(Err(format!("no service port {port} found for service {name:?}")));
    };
    let port_name = port_name.as_str().unwrap_or_default();
    let mut found = Vec::new();
    for kv in server.read_namespace(slices, namespace).await? {
        let slice = Stored::from(&kv).object(slices)?;
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let of_name = ports.find(|candidate| candidate["name"].as_str().unwrap_or_default() == port_name);
        let number = of_name.and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(number) = number else { continue };
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        found.extend(ready.filter_map(|endpoint| Some((text(&endpoint["addresses"][0])?.to_owned(), number))));
    }
    if found.is_empty() {
        return Ok(Err(format!("no endpoints available for service {name:?}")));
    }
    let pick = rand::Rng::random_range(&mut ambient::rng(), 0..found.len());
    Ok(Ok(found.swap_remove(pick)))
}

/// TLS with whoever the bundle vouches for.
fn tls(bundle: &Value) -> Result<Arc<ClientConfig>, String> {
    let pem = STANDARD
        .decode(bundle.as_str().unwrap_or_default())
        .map_err(|error| format!("caBundle cannot be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| format!("caBundle cannot be read: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("caBundle cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err("clientConfig has no caBundle, and nobody else vouches for webhooks".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_must_be_about_the_question() {
        let request = json!({"uid": "1"});
        let answer = |uid: &str, version: &str| {
            json!({"kind": "AdmissionReview", "apiVersion": version, "response": {"uid": uid, "allowed": true,
                "patchType": "JSONPatch", "patch": STANDARD.encode("[]"), "warnings": ["w"]}})
        };
        let verdict = read(&answer("1", "admission.k8s.io/v1"), "admission.k8s.io/v1", &request).unwrap();
        assert_eq!(
            (verdict.allowed, verdict.patch, verdict.warnings),
            (true, json!([]), vec!["w".to_owned()])
        );
        assert!(read(&answer("2", "admission.k8s.io/v1"), "admission.k8s.io/v1", &request).is_err());
        assert!(
            read(
                &answer("1", "admission.k8s.io/v1beta1"),
                "admission.k8s.io/v1",
                &request
            )
            .is_err()
        );
        assert!(read(&json!({}), "admission.k8s.io/v1", &request).is_err());
    }
}
