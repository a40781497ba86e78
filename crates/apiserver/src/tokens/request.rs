//! POST to `serviceaccounts/NAME/token`: a new token for an account, perhaps bound to a pod, a secret or a node.

use super::claims::{Binding, Claims, LegacyBinding, Named, user_name};
use crate::admission::node_restriction::check_token;
use crate::admission::{Operation, kind, sent, validate_sent};
use crate::body;
use crate::call::Call;
use crate::clock;
use crate::create::text;
use crate::names;
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request, internal, status};
use crate::stored::Stored;
use api::error::{FieldError, Status};
use api::schema;
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

const SCHEMA: &str = "io.k8s.api.authentication.v1.TokenRequest";
const DEFAULT_S: i64 = 3600;
const SHORTEST_S: i64 = 600;
const LONGEST_S: i64 = 1 << 32;

/// What the server itself asks for on behalf of pods (see `service_account_admission`). Clients that read a token once
/// and never again go on with such a one for a year, as upstream lets them; from `warnafter` on they are late.
const OF_PODS_S: i64 = 3607;
const EXTENDED_S: i64 = 365 * 24 * 3600;

/// Makes a token.
pub(crate) async fn create(server: &Server, call: &mut Call, body: Bytes) -> Outcome<Response<Body>> {
    let text_of_body = body::json_text(&call.headers, body)?;
    let decoded = schema::decode(SCHEMA, &text_of_body, call.write.field_validation).map_err(|error| {
        let what = schema::cannot_be_handled(SCHEMA);
        bad_request(format!("{what}{error}"))
    })?;
    let mut request = decoded.object;
    check(call, &mut request)?;
    let shown = sent(&request, "authentication.k8s.io/v1", "TokenRequest");
    validate_sent(server, call, Operation::Create, &shown).await?;
    let account = server.existing(&call.kind, &call.namespace, &call.name).await?;
    let account = Stored::from(&account).metadata();
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_S);
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!(server.issuer.audiences);
    }
    let audiences = request["spec"]["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> = audiences
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let mut binding = bind(server, call, &request["spec"]["boundObjectRef"]).await?;
    check_token(&call.user, &call.name, &binding, &request["spec"]["boundObjectRef"])?;
    binding.serviceaccount = Named {
        name: call.name.clone(),
        uid: account["uid"].as_str().unwrap_or("").to_owned(),
    };
    let now = clock::now_s();
    let is_extended = seconds == OF_PODS_S && audiences == server.issuer.audiences;
    binding.warnafter = is_extended.then_some(now + seconds);
    let claims = Claims {
        aud: audiences,
        exp: Some(now + if is_extended { EXTENDED_S } else { seconds }),
        iat: Some(now),
        iss: server.issuer.name.clone(),
        jti: names::uid(),
        sub: user_name(&call.namespace, &call.name),
        kubernetes: Some(binding),
        nbf: Some(now),
        legacy: LegacyBinding::default(),
    };
    let token = server.issuer.keys.sign(&claims);
    let token = token.ok_or_else(|| internal("the token cannot be signed"))?;
    let bound = request["spec"]["boundObjectRef"].take();
    let answer = json!({
        "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": call.name, "namespace": call.namespace, "uid": names::uid(),
            "creationTimestamp": clock::text(now)},
        "spec": {"audiences": claims.aud, "expirationSeconds": seconds, "boundObjectRef": bound},
        "status": {"token": token, "expirationTimestamp": clock::text(now + seconds)},
    });
    respond::value(call, StatusCode::CREATED, &answer)
}

/// The name in the body, and the time asked for.
fn check(call: &Call, request: &mut Value) -> Outcome<()> {
    let (name, namespace) = (
        text(&request["metadata"]["name"]),
        text(&request["metadata"]["namespace"]),
    );
    if name.is_some_and(|name| name != call.name) {
        return Err(bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            name.unwrap_or_default(),
            call.name
        )));
    }
    if namespace.is_some_and(|namespace| namespace != call.namespace) {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(bad_request(message));
    }
    let Some(seconds) = request["spec"]["expirationSeconds"].as_i64() else {
        return Ok(());
    };
    let why = if seconds < SHORTEST_S {
        "may not specify a duration less than 10 minutes"
    } else if seconds > LONGEST_S {
        "may not specify a duration larger than 2^32 seconds"
    } else {
        return Ok(());
    };
    let error = FieldError::invalid("spec.expirationSeconds", seconds, why);
    let named = Status::invalid_named("authentication.k8s.io", "TokenRequest", &call.name, &[error]);
    Err(Box::new(named))
}

/// The object that the token is to die with.
async fn bind(server: &Server, call: &Call, reference: &Value) -> Outcome<Binding> {
    let mut binding = Binding {
        namespace: call.namespace.clone(),
        ..Binding::default()
    };
    if reference.is_null() {
        return Ok(binding);
    }
    let part = |field: &str| text(&reference[field]).unwrap_or("").to_owned();
    let (api_version, wanted, name) = (part("apiVersion"), part("kind"), part("name"));
    let of = match (api_version.as_str(), wanted.as_str()) {
        ("v1", "Pod") => kind("", "pods"),
        ("v1", "Secret") => kind("", "secrets"),
        ("v1", "Node") => kind("", "nodes"),
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            let message = format!("cannot bind token to object of type {group}/{version}, Kind={wanted}");
            return Err(bad_request(message));
        }
    };
    let namespace = if of.namespaced { call.namespace.as_str() } else { "" };
    let found = server.existing(of, namespace, &name).await?;
    let object = Stored::from(&found).object(of)?;
    let named = named(&object);
    let given = part("uid");
    if !given.is_empty() && given != named.uid {
        let record = &named.uid;
        let why = format!(
            "the UID in the bound object reference ({given}) does not match the UID in record ({record}). The object \
             might have been deleted and then recreated"
        );
        return Err(conflict(&wanted, &name, &why));
    }
    match wanted.as_str() {
        "Pod" => {
            let runs_as = text(&object["spec"]["serviceAccountName"]).unwrap_or("");
            if runs_as != call.name {
                let own = &call.name;
                return Err(bad_request(format!(
                    "cannot bind token for serviceaccount {own:?} to pod running with serviceaccount {runs_as:?}"
                )));
            }
            binding.node = node_of(server, &object).await?;
            binding.pod = Some(named);
        }
        "Secret" => binding.secret = Some(named),
        _ => binding.node = Some(named),
    }
    Ok(binding)
}

fn named(object: &Value) -> Named {
    let part = |field: &str| object["metadata"][field].as_str().unwrap_or("").to_owned();
    Named {
        name: part("name"),
        uid: part("uid"),
    }
}

/// The node of a pod, as its token tells it; a node that is not known (any more) has no uid.
async fn node_of(server: &Server, pod: &Value) -> Outcome<Option<Named>> {
    let Some(name) = text(&pod["spec"]["nodeName"]) else {
        return Ok(None);
    };
    let nodes = kind("", "nodes");
    let found = server.read(nodes, "", name).await?;
    let found = found.map(|kv| Stored::from(&kv).object(nodes)).transpose()?;
    Ok(Some(found.as_ref().map_or_else(
        || Named {
            name: name.to_owned(),
            uid: String::new(),
        },
        named,
    )))
}

fn conflict(kind: &str, name: &str, why: &str) -> Box<Status> {
    let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
    status(409, "Conflict", message, json!({"name": name, "kind": kind}))
}
