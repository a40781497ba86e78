//! The names that the rules of a policy may use, and what they stand for.

use cel::{AUTHORIZER_TYPE, Authorizer, Environment, Inquiry, ObjectType, Question, RESOURCE_CHECK_TYPE, Type};
use serde_json::{Value, json};
use std::sync::Arc;

/// Of what types the objects are; `Dyn` where that shows only when a rule runs.
#[derive(Clone, Debug)]
pub(super) struct Types {
    pub(super) object: Type,
    /// `None` for a policy without parameters.
    pub(super) params: Option<Type>,
}

/// The names of a policy without its variables.
pub(super) fn environment(types: &Types) -> Environment {
    let environment = Environment::default()
        .with("object", types.object.clone())
        .with("oldObject", types.object.clone())
        .with("request", request_type())
        .with("namespaceObject", namespace_type())
        .with("authorizer", AUTHORIZER_TYPE)
        .with("authorizer.requestResource", RESOURCE_CHECK_TYPE);
    match &types.params {
        Some(params) => environment.with("params", params.clone()),
        None => environment,
    }
}

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let fields = fields.iter().map(|(name, of)| ((*name).to_owned(), of.clone()));
    Type::Object(Arc::new(ObjectType {
        name: name.to_owned(),
        fields: fields.collect(),
    }))
}

fn texts() -> Type {
    Type::map(Type::TEXT, Type::TEXT)
}

fn request_type() -> Type {
    let kind = object(
        "kubernetes.GroupVersionKind",
        &[("group", Type::TEXT), ("version", Type::TEXT), ("kind", Type::TEXT)],
    );
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", Type::TEXT), ("version", Type::TEXT), ("resource", Type::TEXT)],
    );
    let user = object(
        "kubernetes.UserInfo",
        &[
            ("username", Type::TEXT),
            ("uid", Type::TEXT),
            ("groups", Type::list(Type::TEXT)),
            ("extra", Type::map(Type::TEXT, Type::list(Type::TEXT))),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", Type::TEXT),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", Type::TEXT),
            ("name", Type::TEXT),
            ("namespace", Type::TEXT),
            ("operation", Type::TEXT),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

fn namespace_type() -> Type {
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", Type::TEXT),
            ("generateName", Type::TEXT),
            ("namespace", Type::TEXT),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", Type::TEXT),
            ("uid", Type::TEXT),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", Type::TEXT),
            ("finalizers", Type::list(Type::TEXT)),
        ],
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", Type::list(Type::TEXT))]);
    let status = object("kubernetes.NamespaceStatus", &[("phase", Type::TEXT)]);
    object(
        "kubernetes.Namespace",
        &[("metadata", metadata), ("spec", spec), ("status", status)],
    )
}

/// A write, as `request` tells of it.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Group, version and kind of the object that was sent.
    pub kind: [&'a str; 3],
    /// Group, version and resource that it was sent to.
    pub resource: [&'a str; 3],
    /// The same in the version that the policy speaks of.
    pub matched: [[&'a str; 3]; 2],
    /// The part of the resource; may be empty.
    pub subresource: &'a str,
    /// May be empty: a name that is yet to be made.
    pub name: &'a str,
    /// May be empty.
    pub namespace: &'a str,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// `userInfo` of a review.
    pub user: Value,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The options that came along.
    pub options: Value,
}

impl Request<'_> {
    /// The request as a review has it, without the objects.
    pub fn to_json(&self) -> Value {
        let kind = |[group, version, kind]: [&str; 3]| json!({"group": group, "version": version, "kind": kind});
        let resource =
            |[group, version, resource]: [&str; 3]| json!({"group": group, "version": version, "resource": resource});
        let mut request = json!({
            "kind": kind(self.matched[0]), "resource": resource(self.matched[1]),
            "requestKind": kind(self.kind), "requestResource": resource(self.resource),
            "operation": self.operation, "userInfo": self.user, "dryRun": self.dry_run, "options": self.options,
        });
        for (field, text) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace),
        ] {
            if !text.is_empty() {
                request[field] = json!(text);
            }
        }
        request
    }

    fn question(&self) -> Question {
        Question {
            group: self.resource[0].to_owned(),
            resource: self.resource[2].to_owned(),
            subresource: self.subresource.to_owned(),
            namespace: self.namespace.to_owned(),
            name: self.name.to_owned(),
            ..Question::default()
        }
    }
}

/// What the names stand for in one write; parameters come from the binding.
#[derive(Clone, Debug)]
pub struct Subject {
    object: cel::Value,
    old: cel::Value,
    request: cel::Value,
    namespace: cel::Value,
    authorizer: cel::Value,
    request_resource: cel::Value,
}

impl Subject {
    /// A write; each of the objects may be null.
    pub fn new(request: &Request<'_>, [object, old, namespace]: [&Value; 3], authorizer: Arc<dyn Authorizer>) -> Self {
        let asked = |inquiry| cel::Value::Inquiry(Arc::new(inquiry));
        Self {
            object: cel::Value::from_json(object, &Type::Dyn),
            old: cel::Value::from_json(old, &Type::Dyn),
            // Its fields have the names that they have: `namespace` is not escaped, as it is in custom resources.
            request: cel::Value::from_json(&request.to_json(), &Type::Dyn),
            namespace: cel::Value::from_json(namespace, &namespace_type()),
            authorizer: asked(Inquiry::authorizer(authorizer.clone())),
            request_resource: asked(Inquiry::resource(authorizer, request.question())),
        }
    }

    /// The same write of an object that has been changed meanwhile.
    #[must_use]
    pub fn with_object(mut self, object: &Value) -> Self {
        self.object = cel::Value::from_json(object, &Type::Dyn);
        self
    }

    /// What a name stands for.
    pub(super) fn value(&self, name: &str) -> Option<&cel::Value> {
        Some(match name {
            "object" => &self.object,
            "oldObject" => &self.old,
            "request" => &self.request,
            "namespaceObject" => &self.namespace,
            "authorizer" => &self.authorizer,
            "authorizer.requestResource" => &self.request_resource,
            _ => return None,
        })
    }
}
