//! Questions about identity and rights: objects that are answered, never stored.

use crate::authz::{Action, MASTERS};
use crate::body;
use crate::call::Call;
use crate::clock;
use crate::create::text;
use crate::node_authorizer::node_of;
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request};
use crate::tokens;
use crate::user::User;
use api::error::{FieldError, Status};
use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

/// A resource that can only be created, and whose creation is the answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) namespaced: bool,
}

/// All reviews, in the order of discovery.
pub(crate) const REVIEWS: &[Review] = &[
    review(
        "authentication.k8s.io",
        "TokenReview",
        "tokenreviews",
        "tokenreview",
        false,
    ),
    review(
        "authentication.k8s.io",
        "SelfSubjectReview",
        "selfsubjectreviews",
        "selfsubjectreview",
        false,
    ),
    review(
        "authorization.k8s.io",
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
        "localsubjectaccessreview",
        true,
    ),
    review(
        "authorization.k8s.io",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        "selfsubjectaccessreview",
        false,
    ),
    review(
        "authorization.k8s.io",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreviews",
        "selfsubjectrulesreview",
        false,
    ),
    review(
        "authorization.k8s.io",
        "SubjectAccessReview",
        "subjectaccessreviews",
        "subjectaccessreview",
        false,
    ),
];

const fn review(
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    namespaced: bool,
) -> Review {
    Review {
        group,
        kind,
        plural,
        singular,
        namespaced,
    }
}

/// The review served under a group and resource.
pub(crate) fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Review> {
    REVIEWS
        .iter()
        .find(|review| version == "v1" && review.group == group && review.plural == plural)
}

/// POST of a review.
pub(crate) async fn answer(
    server: &Server,
    review: &'static Review,
    call: &Call,
    body: Bytes,
) -> Outcome<Response<Body>> {
    let text = body::json_text(&call.headers, body)?;
    let mut object: Value = serde_json::from_slice(&text).map_err(|error| {
        let kind = review.kind;
        bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: {error}"
        ))
    })?;
    if !object.is_object() {
        let kind = review.kind;
        return Err(bad_request(format!(
            "{kind} in version \"v1\" cannot be handled as a {kind}: it is no JSON object"
        )));
    }
    object["kind"] = json!(review.kind);
    object["apiVersion"] = json!(format!("{}/v1", review.group));
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["status"] = match review.kind {
        "SelfSubjectReview" => {
            object["metadata"]["creationTimestamp"] = json!(clock::now_text());
            json!({"userInfo": call.user.info()})
        }
        "TokenReview" => tokens::review::status(server, &object["spec"]).await?,
        "SelfSubjectRulesReview" => rules(server, &call.user, &object["spec"])?,
        "SelfSubjectAccessReview" => access(server, &call.user, &action(review, &object["spec"])?).await,
        _ => {
            let spec = &object["spec"];
            check_namespace(review, call, spec)?;
            access(server, &subject(review, spec)?, &action(review, spec)?).await
        }
    };
    respond::value(call, StatusCode::CREATED, &object)
}

async fn access(server: &Server, user: &User, action: &Action) -> Value {
    let decision = server.access.decide(server.store.as_ref(), user, action).await;
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    status
}

/// A review in a namespace is about that namespace.
fn check_namespace(review: &Review, call: &Call, spec: &Value) -> Outcome<()> {
    if !review.namespaced {
        return Ok(());
    }
    if !spec["nonResourceAttributes"].is_null() {
        let detail = "disallowed on this kind of request";
        return Err(invalid(
            review,
            FieldError::invalid("spec.nonResourceAttributes", Value::Null, detail),
        ));
    }
    let namespace = spec["resourceAttributes"]["namespace"].as_str().unwrap_or("");
    if namespace != call.namespace {
        let detail = "must match metadata.namespace";
        let error = FieldError::invalid("spec.resourceAttributes.namespace", namespace, detail);
        return Err(invalid(review, error));
    }
    Ok(())
}

fn subject(review: &Review, spec: &Value) -> Outcome<User> {
    let texts = |list: &Value| -> Vec<String> {
        let items = list.as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let part = |name: &str| spec[name].as_str().unwrap_or("").to_owned();
    let mut user = User::new(part("user"), texts(&spec["groups"]));
    if user.name.is_empty() && user.groups.is_empty() {
        let detail = "at least one of user or group must be specified";
        return Err(invalid(review, FieldError::invalid("spec.user", "", detail)));
    }
    user.uid = part("uid");
    for (key, values) in spec["extra"].as_object().into_iter().flatten() {
        user.extra.insert(key.clone(), texts(values));
    }
    Ok(user)
}

fn invalid(review: &Review, error: FieldError) -> Box<Status> {
    Box::new(Status::invalid_named(review.group, review.kind, "", &[error]))
}

fn action(review: &Review, spec: &Value) -> Outcome<Action> {
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let part = |of: &Value, name: &str| text(&of[name]).unwrap_or("").to_owned();
    match (resource.is_object(), other.is_object()) {
        (true, false) => Ok(Action {
            verb: part(resource, "verb"),
            group: part(resource, "group"),
            resource: part(resource, "resource"),
            subresource: part(resource, "subresource"),
            namespace: part(resource, "namespace"),
            name: part(resource, "name"),
            fields: fields(&resource["fieldSelector"]),
            path: None,
        }),
        (false, true) => Ok(Action {
            verb: part(other, "verb"),
            path: Some(part(other, "path")),
            ..Action::default()
        }),
        _ => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            Err(invalid(
                review,
                FieldError::invalid("spec.resourceAttributes", resource.clone(), detail),
            ))
        }
    }
}

/// What a review says that fields of objects must be.
fn fields(selector: &Value) -> Vec<(String, String)> {
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let exact = requirements.filter_map(|requirement| {
        let values = requirement["values"].as_array().filter(|values| values.len() == 1)?;
        let is_exact = requirement["operator"] == "In";
        let pair = (requirement["key"].as_str()?.to_owned(), values[0].as_str()?.to_owned());
        is_exact.then_some(pair)
    });
    exact.collect()
}

/// All that a user may do in a namespace.
fn rules(server: &Server, user: &User, spec: &Value) -> Outcome<Value> {
    let namespace = spec["namespace"].as_str().unwrap_or("");
    if namespace.is_empty() {
        return Err(bad_request("no namespace on request"));
    }
    let (mut resources, mut others): (Vec<Value>, Vec<Value>) = (Vec::new(), Vec::new());
    if user.is_in(MASTERS) {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        others.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    for rule in server.access.rbac.view.rules_of(user, namespace) {
        let list = if rule.non_resource_urls.is_empty() {
            &mut resources
        } else {
            &mut others
        };
        list.push(json!(*rule));
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": others, "incomplete": false});
    if node_of(user).is_some() {
        status["incomplete"] = json!(true);
        status["evaluationError"] = json!("node authorizer does not support user rule resolution");
    }
    Ok(status)
}
