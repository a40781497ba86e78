//! Questions about identity and rights: objects that are answered, never stored.

use crate::authz::{self, Action};
use crate::body;
use crate::call::Call;
use crate::clock;
use crate::create::text;
use crate::respond;
use crate::server::Server;
use crate::status::{Outcome, bad_request, invalid_options_value};
use crate::tokens;
use crate::user::User;
use api::error::{FieldError, FieldErrorType};
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
        "SelfSubjectRulesReview" => rules(&call.user),
        "SelfSubjectAccessReview" => access(&call.user, &action(&object["spec"])?),
        _ => access(&subject(&object["spec"]), &action(&object["spec"])?),
    };
    respond::value(call, StatusCode::CREATED, &object)
}

fn access(user: &User, action: &Action) -> Value {
    json!({"allowed": authz::allows(user, action)})
}

fn subject(spec: &Value) -> User {
    let groups = spec["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    User::new(spec["user"].as_str().unwrap_or(""), groups)
}

fn action(spec: &Value) -> Outcome<Action> {
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
            path: None,
        }),
        (false, true) => {
            let (verb, path) = (part(other, "verb"), Some(part(other, "path")));
            Ok(Action {
                verb,
                path,
                ..Action::default()
            })
        }
        _ => Err(invalid_options_value(
            "SelfSubjectAccessReview",
            FieldError {
                error: FieldErrorType::Invalid,
                field: "spec.resourceAttributes".to_owned(),
                value: Some(resource.clone()),
                detail: "exactly one of nonResourceAttributes or resourceAttributes must be specified".to_owned(),
            },
        )),
    }
}

/// What the fixed table allows, as far as it can be said in rules.
fn rules(user: &User) -> Value {
    let all = Action {
        verb: "*".to_owned(),
        group: "*".to_owned(),
        resource: "*".to_owned(),
        ..Action::default()
    };
    if authz::allows(user, &all) {
        return json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        });
    }
    let own = json!([{"verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
        "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]},
        {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]}]);
    let public = json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/api",
        "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]}]);
    json!({"resourceRules": own, "nonResourceRules": public, "incomplete": true})
}
