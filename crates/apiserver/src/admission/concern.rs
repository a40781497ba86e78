//! Which admission policies are about a write, with their parameters, and what they are told of it.

use super::{Operation, Review, kind};
use crate::authz::{Access, Action};
use crate::create::text;
use crate::policies::{self, Held, Sort};
use crate::scale;
use crate::status::Outcome;
use crate::stored::Stored;
use crate::user::User;
use api::kinds::{Kind, KindRef};
use api::policy::matching::{Match, Target, matches};
use api::policy::{Authorizer, Decision, Question, Request, Subject};
use api::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;

/// A policy by way of one of its bindings.
pub(super) struct Concern {
    pub(super) policy: Arc<Held>,
    pub(super) binding: Arc<Held>,
    pub(super) subject: Subject,
    /// One for each parameter object; one `None` for a policy without.
    pub(super) params: Vec<Option<Value>>,
}

/// A policy that cannot be asked.
pub(super) struct Misfit {
    pub(super) policy: Arc<Held>,
    /// The binding that cannot be followed; `None` if it is the policy itself.
    pub(super) binding: Option<Arc<Held>>,
    pub(super) why: String,
}

/// The write as policies see it.
pub(super) struct Shown {
    pub(super) object: Value,
    pub(super) old: Value,
    /// Group, version and kind of the objects.
    kind: [String; 3],
}

impl Shown {
    /// A write of an object, or of the part of it that its subresource is.
    pub(super) fn of(review: &Review<'_>, object: &Value) -> Outcome<Self> {
        let call = review.call;
        if call.subresource == "scale" {
            let of = |object: &Value| scale::scale_of(call, object);
            return Ok(Self {
                object: of(object)?,
                old: review.old.map(of).transpose()?.unwrap_or(Value::Null),
                kind: ["autoscaling", "v1", "Scale"].map(str::to_owned),
            });
        }
        let is_delete = review.operation == Operation::Delete;
        Ok(Self {
            object: if is_delete { Value::Null } else { object.clone() },
            old: review.old.cloned().unwrap_or(Value::Null),
            kind: [call.kind.group, call.kind.version, call.kind.kind].map(str::to_owned),
        })
    }

    /// Whether it is the object itself, not something that a subresource makes of it.
    fn is_whole(&self, review: &Review<'_>) -> bool {
        self.kind[2] == review.call.kind.kind
    }

    /// Something that is sent to a subresource and is stored nowhere: it has a kind of its own.
    pub(super) fn sent(object: &Value) -> Self {
        let api_version = text(&object["apiVersion"]).unwrap_or("v1");
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = text(&object["kind"]).unwrap_or_default();
        Self {
            kind: [group, version, kind].map(str::to_owned),
            object: object.clone(),
            old: Value::Null,
        }
    }
}

/// The policies of a sort that are about a write, and those that cannot be asked.
pub(super) async fn concerned(review: &Review<'_>, sort: Sort, shown: &Shown) -> Outcome<(Vec<Concern>, Vec<Misfit>)> {
    let call = review.call;
    let (mut concerns, mut misfits) = (Vec::new(), Vec::new());
    if policies::is_exempt(&call.kind) || review.is_own() {
        return Ok((concerns, misfits));
    }
    let bound = review.server.policies.view.bound(sort);
    if bound.is_empty() {
        return Ok((concerns, misfits));
    }
    let namespace = namespace_object(review).await?;
    let name = name_of(review, shown);
    let others = review.server.same_objects(&call.kind);
    let target = target(review, shown, &name, &namespace);
    for (policy, binding) in bound {
        let found = match matches(&policy.spec["matchConstraints"], &target, &others) {
            Ok(found) => found,
            Err(why) => {
                let binding = None;
                misfits.push(Misfit { policy, binding, why });
                continue;
            }
        };
        let bound = matches(&binding.spec["matchResources"], &target, &others);
        let params = match (&found, bound) {
            (Match::No, _) | (_, Ok(Match::No)) => continue,
            (_, Err(why)) => Err(why),
            (_, Ok(_)) => params(review, &policy, &binding).await?,
        };
        let kind = match &found {
            Match::As(kind) => Some(kind),
            Match::Yes | Match::No => None,
        };
        match params {
            Ok(params) => concerns.push(Concern {
                subject: subject(review, shown, &namespace, kind)?,
                policy,
                binding,
                params,
            }),
            Err(why) => {
                let binding = Some(binding);
                misfits.push(Misfit { policy, binding, why });
            }
        }
    }
    Ok((concerns, misfits))
}

/// The write, as far as it decides who is asked about it.
pub(super) fn target<'a>(review: &'a Review<'_>, shown: &'a Shown, name: &'a str, namespace: &'a Value) -> Target<'a> {
    let call = review.call;
    let namespace_labels = match (is_namespace(review), &shown.object) {
        (true, Value::Null) => &shown.old["metadata"]["labels"],
        (true, object) => &object["metadata"]["labels"],
        (false, _) => &namespace["metadata"]["labels"],
    };
    Target {
        kind: &call.kind,
        subresource: &call.subresource,
        operation: review.operation.name(),
        namespace: &call.namespace,
        name,
        object: &shown.object,
        old: &shown.old,
        namespace_labels,
    }
}

fn is_namespace(review: &Review<'_>) -> bool {
    review.call.kind.group.is_empty() && review.call.kind.kind == "Namespace"
}

/// The name of the object, if it has one yet.
pub(super) fn name_of(review: &Review<'_>, shown: &Shown) -> String {
    let of = |object: &Value| text(&object["metadata"]["name"]).map(str::to_owned);
    let named = of(&shown.object).or_else(|| of(&shown.old));
    named.unwrap_or_else(|| review.call.name.clone())
}

/// The namespace of the object; null if it is in none.
pub(super) async fn namespace_object(review: &Review<'_>) -> Outcome<Value> {
    let namespaces = kind("", "namespaces");
    if review.call.namespace.is_empty() || is_namespace(review) {
        return Ok(Value::Null);
    }
    let found = review.server.read(namespaces, "", &review.call.namespace).await?;
    found.map_or(Ok(Value::Null), |kv| Stored::from(&kv).object(namespaces))
}

/// The write as a review tells of it; `kind` is the kind under which the object is to be shown, if another than its own.
pub(super) fn request<'a>(
    review: &'a Review<'_>,
    shown: &'a Shown,
    name: &'a str,
    kind: Option<&'a KindRef>,
) -> Request<'a> {
    let call = review.call;
    let own = [&*shown.kind[0], &*shown.kind[1], &*shown.kind[2]];
    let resource = [call.kind.group, call.kind.version, call.kind.plural];
    let matched = match kind {
        Some(other) => {
            let resource = [other.group, other.version, other.plural];
            if shown.is_whole(review) {
                [[other.group, other.version, other.kind], resource]
            } else {
                // What is sent to a subresource has a kind of its own, whatever the version of the resource.
                [own, resource]
            }
        }
        None => [own, resource],
    };
    Request {
        kind: own,
        resource,
        matched,
        subresource: &call.subresource,
        name,
        namespace: &call.namespace,
        operation: review.operation.name(),
        user: call.user.info(),
        dry_run: review.dry_run,
        options: options(review),
    }
}

/// The object and what it was, under another kind if that is wanted.
pub(super) fn objects(review: &Review<'_>, shown: &Shown, kind: Option<&KindRef>) -> Outcome<[Value; 2]> {
    match kind.filter(|_| shown.is_whole(review)) {
        Some(other) => {
            let of = |object: &Value| as_kind(&review.call.kind, other, object);
            Ok([of(&shown.object)?, of(&shown.old)?])
        }
        None => Ok([shown.object.clone(), shown.old.clone()]),
    }
}

/// An object as it is served under another kind.
pub(super) fn as_kind(kind: &Kind, other: &Kind, object: &Value) -> Outcome<Value> {
    if object.is_null() {
        return Ok(Value::Null);
    }
    let value = Stored::encode(kind, object);
    Stored { value, revision: 0 }.object(other)
}

/// What rules are told of the write.
pub(super) fn subject(
    review: &Review<'_>,
    shown: &Shown,
    namespace: &Value,
    kind: Option<&KindRef>,
) -> Outcome<Subject> {
    let name = name_of(review, shown);
    let authorizer = Arc::new(Asked {
        access: review.server.access.clone(),
        user: review.call.user.clone(),
    });
    let [object, old] = objects(review, shown, kind)?;
    let request = request(review, shown, &name, kind);
    Ok(Subject::new(&request, [&object, &old, namespace], authorizer))
}

/// The options as an object.
fn options(review: &Review<'_>) -> Value {
    let kind = match review.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if let Some(manager) = &review.call.write.field_manager {
        options["fieldManager"] = json!(manager);
    }
    if review.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}

/// The parameters of a binding, or why there are none.
async fn params(review: &Review<'_>, policy: &Held, binding: &Held) -> Outcome<Result<Vec<Option<Value>>, String>> {
    let (named, given) = (&policy.spec["paramKind"], &binding.spec["paramRef"]);
    if named.is_null() || given.is_null() {
        return Ok(Ok(vec![None]));
    }
    let [api_version, kind] = ["apiVersion", "kind"].map(|field| text(&named[field]).unwrap_or_default());
    let Some(kind) = review.server.kind_named(api_version, kind) else {
        return Ok(Err(format!("paramKind kind `{api_version}, Kind={kind}` not known")));
    };
    let namespace = match (kind.namespaced, text(&given["namespace"])) {
        (true, Some(namespace)) => namespace,
        (true, None) if review.call.namespace.is_empty() => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Ok(Err(why.to_owned()));
        }
        (true, None) => &review.call.namespace,
        (false, Some(_)) => {
            let why = "paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
            return Ok(Err(why.to_owned()));
        }
        (false, None) => "",
    };
    let found = if let Some(name) = text(&given["name"]) {
        let found = review.server.read(&kind, namespace, name).await?;
        found.into_iter().collect()
    } else {
        review.server.read_namespace(&kind, namespace).await?
    };
    let selector = match &given["selector"] {
        Value::Null => None,
        selector => match LabelSelector::from_object(selector) {
            Ok(selector) => Some(selector),
            Err(why) => return Ok(Err(why)),
        },
    };
    let mut params = Vec::new();
    for kv in &found {
        let object = Stored::from(kv).object(&kind)?;
        if selector
            .as_ref()
            .is_none_or(|selector| selector.matches(&object["metadata"]["labels"]))
        {
            params.push(Some(object));
        }
    }
    if params.is_empty() && given["parameterNotFoundAction"] == "Deny" {
        let why = "no params found for policy binding with `Deny` parameterNotFoundAction";
        return Ok(Err(why.to_owned()));
    }
    Ok(Ok(params))
}

/// What rules ask of the authorizer.
#[derive(Debug)]
struct Asked {
    access: Access,
    user: User,
}

impl Authorizer for Asked {
    fn decide(&self, question: &Question) -> Decision {
        let user = match &question.service_account {
            Some((namespace, name)) => &User::service_account(namespace, name),
            None => &self.user,
        };
        let mut action = Action {
            verb: question.verb.clone(),
            path: question.path.clone(),
            group: question.group.clone(),
            resource: question.resource.clone(),
            subresource: question.subresource.clone(),
            namespace: question.namespace.clone(),
            name: question.name.clone(),
            fields: Vec::new(),
        };
        let fields = question.field_selector.split(',');
        let pairs = fields.filter_map(|pair| pair.split_once("==").or_else(|| pair.split_once('=')));
        let pairs = pairs.filter(|(field, _)| !field.ends_with('!'));
        action.fields = pairs
            .map(|(field, value)| (field.trim().to_owned(), value.trim().to_owned()))
            .collect();
        let reason = self.access.allows(user, &action);
        Decision {
            allowed: reason.is_some(),
            reason: reason.unwrap_or_default(),
            error: String::new(),
        }
    }
}
