//! The objects that one pod refers to, kept in sight while the pod is here.

use crate::objects::{Key, Object, Seen, Watched};
use crate::run::Node;
use api::k8s::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use api::k8s::api::core::v1::{Pod, ServiceAccount};
use futures::stream::{BoxStream, SelectAll};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, PostParams};
use node_plan::{Sources, Wanted, wanted_objects};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The API is asked again later if it has not answered by then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

type Tokens = BTreeMap<(String, i64), Token>;

/// References of one pod.
#[derive(Clone)]
pub(crate) struct References {
    watched: Arc<BTreeMap<Wanted, Arc<Watched>>>,
    tokens: Arc<Mutex<Tokens>>,
}

struct Token {
    text: String,
    renew_at: Timestamp,
}

impl References {
    /// Begins to watch what a pod refers to.
    pub(crate) fn new(node: &Node, pod: &Pod) -> Self {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let key = |wanted: &Wanted| match wanted {
            Wanted::ConfigMap(name) => Some(Key::ConfigMap(namespace.clone(), name.clone())),
            Wanted::Secret(name) => Some(Key::Secret(namespace.clone(), name.clone())),
            Wanted::Claim(name) => Some(Key::Claim(namespace.clone(), name.clone())),
            Wanted::Token(..) => None,
        };
        let mut watched = BTreeMap::new();
        let mut tokens = Tokens::new();
        for wanted in wanted_objects(pod) {
            match (key(&wanted), &wanted) {
                (Some(key), _) => {
                    watched.insert(wanted, node.objects.watch(&key));
                }
                (None, Wanted::Token(audience, seconds)) => {
                    let none = Token {
                        text: String::new(),
                        renew_at: Timestamp::MIN,
                    };
                    tokens.insert((audience.clone(), *seconds), none);
                }
                _ => {}
            }
        }
        Self {
            watched: Arc::new(watched),
            tokens: Arc::new(Mutex::new(tokens)),
        }
    }

    /// An item for each change of any of them.
    pub(crate) fn changes(&self) -> SelectAll<BoxStream<'static, ()>> {
        futures::stream::select_all(self.watched.values().map(|watched| watched.changes()))
    }

    /// When a token must be renewed.
    pub(crate) async fn renew_at(&self) -> Option<Timestamp> {
        self.tokens
            .lock()
            .await
            .values()
            .map(|t| t.renew_at)
            .filter(|t| *t > Timestamp::MIN)
            .min()
    }

    /// All that variables and files are taken from.
    ///
    /// # Errors
    /// The API did not answer, or gave no token.
    pub(crate) async fn sources(&self, node: &Node, pod: &Pod, pod_ips: Vec<String>) -> Result<Sources, String> {
        let mut sources = Sources {
            services: node
                .services
                .state()
                .iter()
                .map(|service| (**service).clone())
                .collect(),
            pod_ips,
            host_ips: node.config.node_addresses(),
            allocatable: node.machine.allocatable(&node.config),
            ..Sources::default()
        };
        for (wanted, watched) in self.watched.iter() {
            let seen = tokio::time::timeout(ANSWER_TIMEOUT, watched.known()).await;
            let seen =
                seen.map_err(|_| format!("failed to sync {wanted:?} cache: timed out waiting for the condition"))?;
            let Seen::Here(object) = seen else { continue };
            match (wanted, &*object) {
                (Wanted::ConfigMap(name), Object::ConfigMap(map)) => {
                    sources.config_maps.insert(name.clone(), map.clone());
                }
                (Wanted::Secret(name), Object::Secret(secret)) => {
                    sources.secrets.insert(name.clone(), secret.clone());
                }
                _ => {}
            }
        }
        sources.tokens = self.fresh_tokens(node, pod).await?;
        Ok(sources)
    }

    async fn fresh_tokens(&self, node: &Node, pod: &Pod) -> Result<BTreeMap<(String, i64), String>, String> {
        // One request at a time; others wait for its tokens.
        let mut tokens = self.tokens.lock().await;
        for ((audience, seconds), token) in tokens.iter_mut() {
            if token.renew_at <= Timestamp::now() {
                *token = request(node, pod, audience, *seconds)
                    .await
                    .map_err(|e| format!("failed to fetch token: {e}"))?;
            }
        }
        Ok(tokens
            .iter()
            .map(|(key, token)| (key.clone(), token.text.clone()))
            .collect())
    }
}

async fn request(node: &Node, pod: &Pod, audience: &str, seconds: i64) -> Result<Token, kube::Error> {
    let account = pod
        .spec
        .as_ref()
        .and_then(|s| s.service_account_name.as_deref())
        .filter(|n| !n.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(node.client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audience).filter(|a| !a.is_empty()).map(|a| vec![a.to_owned()]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(account.unwrap_or("default"), &PostParams::default(), &request)
        .await?;
    let status = answer.status.unwrap_or_default();
    let now = Timestamp::now();
    // Renewed when four fifths of its life are over, as kubelets do.
    let life = status
        .expiration_timestamp
        .map_or(SignedDuration::ZERO, |t| t.0.duration_since(now));
    let renew_at = now
        .checked_add(SignedDuration::from_secs(life.as_secs() * 4 / 5))
        .unwrap_or(Timestamp::MAX);
    Ok(Token {
        text: status.token.unwrap_or_default(),
        renew_at,
    })
}
