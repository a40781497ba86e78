//! Who may call the kubelet API: whoever may do the same to `nodes/…` of this node by the word of the API server.
//!
//! A caller is known by his certificate, or by a token that the API server reviews. Answers are remembered for a while,
//! so that a stream of calls costs one question.

use api::k8s::api::authentication::v1::{TokenReview, TokenReviewSpec};
use api::k8s::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use kube::api::PostParams;
use kube::{Api, Client};
use rustls_pki_types::CertificateDer;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long answers hold; upstream's figures.
const ALLOWED_FOR: Duration = Duration::from_secs(5 * 60);
const REFUSED_FOR: Duration = Duration::from_secs(30);
const TOKEN_FOR: Duration = Duration::from_secs(2 * 60);

/// How many answers are remembered; then all are forgotten.
const REMEMBERED_MAX: usize = 1024;

const POISONED: &str = "nothing panics while it holds the answers";

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Caller {
    name: String,
    groups: Vec<String>,
}

impl Caller {
    /// The owner of a certificate that the TLS configuration trusts.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().find_map(|name| name.as_str().ok())?;
        let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
        let groups = groups.map(str::to_owned).chain(["system:authenticated".to_owned()]);
        Some(Self {
            name: name.to_owned(),
            groups: groups.collect(),
        })
    }
}

/// Asks the API server, and remembers what it said.
pub(crate) struct Gate {
    client: Client,
    node_name: String,
    tokens: Mutex<HashMap<String, (Instant, Caller)>>,
    rights: Mutex<HashMap<Question, (Instant, bool)>>,
}

/// Who, what, and to which part of the node.
type Question = (Caller, &'static str, &'static str);

/// Lets a request through, or answers 401 or 403.
pub(crate) async fn admit(gate: Arc<Gate>, request: Request, next: Next) -> Response {
    let caller = match request.extensions().get::<Caller>().cloned() {
        Some(caller) => Some(caller),
        None => match gate.bearer(request.headers().clone()).await {
            Ok(caller) => caller,
            Err(error) => return unanswered(&error),
        },
    };
    let Some(caller) = caller else {
        return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
    };
    let (verb, part) = (verb(request.method()), part(request.uri().path()));
    match gate.may(&caller, verb, part).await {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let user = caller.name;
            let why = format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{part}])");
            (StatusCode::FORBIDDEN, why).into_response()
        }
        Err(error) => unanswered(&error),
    }
}

fn unanswered(error: &kube::Error) -> Response {
    tracing::warn!(%error, "the API server does not say who may call the kubelet API");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "the API server cannot be asked who may do this",
    )
        .into_response()
}

/// What a call does to the node.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The part of the node that a call is about.
fn part(path: &str) -> &'static str {
    match path.split('/').nth(1) {
        Some("stats") => "stats",
        Some("metrics") => "metrics",
        Some("logs") => "log",
        Some("healthz") => "healthz",
        Some("configz") => "configz",
        Some("pods" | "runningpods") => "pods",
        _ => "proxy",
    }
}

impl Gate {
    pub(crate) fn new(client: Client, node_name: String) -> Self {
        Self {
            client,
            node_name,
            tokens: Mutex::default(),
            rights: Mutex::default(),
        }
    }

    /// The bearer of the token in a request's headers.
    async fn bearer(&self, headers: HeaderMap) -> Result<Option<Caller>, kube::Error> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Ok(None);
        };
        let known = self.tokens.lock().expect(POISONED).get(token).cloned();
        if let Some((until, caller)) = known
            && Instant::now() < until
        {
            return Ok(Some(caller));
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = reviews
            .create(&PostParams::default(), &review)
            .await?
            .status
            .unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        let caller = user.map(|user| Caller {
            name: user.username.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        });
        if let Some(caller) = &caller {
            remember(&self.tokens, token.to_owned(), TOKEN_FOR, caller.clone());
        }
        Ok(caller)
    }

    /// Whether a caller may do that to a part of this node. Who may do it to `proxy` may do it to every part that became
    /// one of its own later.
    async fn may(&self, caller: &Caller, verb: &'static str, part: &'static str) -> Result<bool, kube::Error> {
        if self.ask(caller, verb, part).await? {
            return Ok(true);
        }
        if matches!(part, "healthz" | "configz" | "pods") {
            return self.ask(caller, verb, "proxy").await;
        }
        Ok(false)
    }

    async fn ask(&self, caller: &Caller, verb: &'static str, part: &'static str) -> Result<bool, kube::Error> {
        let question = (caller.clone(), verb, part);
        let known = self.rights.lock().expect(POISONED).get(&question).copied();
        if let Some((until, allowed)) = known
            && Instant::now() < until
        {
            return Ok(allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.name.clone()),
                groups: Some(caller.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(part.to_owned()),
                    name: Some(self.node_name.clone()),
                    version: Some("v1".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let status = reviews.create(&PostParams::default(), &review).await?.status;
        let allowed = status.is_some_and(|status| status.allowed);
        let holds = if allowed { ALLOWED_FOR } else { REFUSED_FOR };
        remember(&self.rights, question, holds, allowed);
        Ok(allowed)
    }
}

fn remember<K: Eq + Hash, V>(answers: &Mutex<HashMap<K, (Instant, V)>>, question: K, holds: Duration, answer: V) {
    let mut answers = answers.lock().expect(POISONED);
    if answers.len() >= REMEMBERED_MAX {
        answers.clear();
    }
    answers.insert(question, (Instant::now() + holds, answer));
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::authentication::v1::TokenRequest;
    use api::k8s::api::core::v1::ServiceAccount;
    use api::k8s::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
    use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use axum::body::Body;
    use axum::{Router, middleware};
    use tower::ServiceExt;

    #[test]
    fn paths_are_parts_of_the_node() {
        assert_eq!(part("/containerLogs/n/p/c"), "proxy");
        assert_eq!(part("/exec/n/p/c"), "proxy");
        assert_eq!(part("/metrics/cadvisor"), "metrics");
        assert_eq!(part("/stats/summary"), "stats");
        assert_eq!(part("/pods"), "pods");
        assert_eq!((verb(&Method::GET), verb(&Method::POST)), ("get", "create"));
    }

    async fn call(gate: &Arc<Gate>, path: &str, caller: Option<Caller>, token: &str) -> u16 {
        let gate = Arc::clone(gate);
        let app = Router::new()
            .fallback(async || "done")
            .layer(middleware::from_fn(move |request, next| {
                admit(Arc::clone(&gate), request, next)
            }));
        let mut request = Request::builder().uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut request = request.body(Body::empty()).unwrap();
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        app.oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn the_api_server_says_who_may_call() {
        let store = Arc::new(store::memory::MemoryStore::new());
        let server = apiserver::ApiServer::new(store, apiserver::Config::default())
            .await
            .unwrap();
        let client = |name: &str, group: &str| {
            let user = apiserver::User::new(name, [group, "system:authenticated"]);
            Client::new(apiserver::in_process(server.router(), user), "default")
        };
        let gate = Arc::new(Gate::new(client("system:node:vm", "system:nodes"), "vm".to_owned()));
        let caller = |name: &str, group: &str| {
            Some(Caller {
                name: name.to_owned(),
                groups: vec![group.to_owned()],
            })
        };
        let exec = "/exec/n/p/c";
        assert_eq!(call(&gate, exec, caller("admin", "system:masters"), "").await, 200);
        assert_eq!(
            call(&gate, exec, caller("kube-apiserver-kubelet-client", "x"), "").await,
            200
        );
        assert_eq!(call(&gate, exec, caller("anna", "system:authenticated"), "").await, 403);
        assert_eq!(call(&gate, exec, None, "").await, 401);
        assert_eq!(call(&gate, exec, None, "a.b.c").await, 401);
        let admin = client("admin", "system:masters");
        let bind = ClusterRoleBinding {
            metadata: ObjectMeta {
                name: Some("kubelets".to_owned()),
                ..ObjectMeta::default()
            },
            role_ref: RoleRef {
                api_group: Some("rbac.authorization.k8s.io".to_owned()),
                kind: "ClusterRole".to_owned(),
                name: "system:kubelet-api-admin".to_owned(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".to_owned(),
                name: "default".to_owned(),
                namespace: Some("default".to_owned()),
                ..Subject::default()
            }]),
        };
        let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
        bindings.create(&PostParams::default(), &bind).await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(admin, "default");
        let (params, request) = (PostParams::default(), TokenRequest::default());
        let answer = accounts.create_token_request("default", &params, &request).await;
        let token = answer.unwrap().status.unwrap().token.unwrap();
        assert_eq!(call(&gate, "/pods", None, &token).await, 200);
    }
}
