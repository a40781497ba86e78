//! The operations of a document: what can be done with the kinds that are served.

use super::group_path;
use super::schemas::Style;
use crate::kinds::Kind;
use serde_json::{Map, Value, json};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const SCALE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// What patches are sent as.
const PATCH_TYPES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
/// What answers are sent as.
const ANSWER_TYPES: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// A parameter: name, type, description.
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "With the value All the request is checked and answered, and nothing is stored.",
);
const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "The name under which the fields set by this request are recorded.",
);
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "What to do with unknown and duplicate fields: Ignore drops them, Warn (the default) drops them and warns, \
     Strict refuses the request.",
);
const FORCE: Parameter = ("force", "boolean", "For an apply: take over fields that others own.");
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCHING: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const DELETING: &[Parameter] = &[
    DRY_RUN,
    (
        "gracePeriodSeconds",
        "integer",
        "How many seconds the object is given to end; zero ends it at once.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: say propagationPolicy instead.",
    ),
    (
        "propagationPolicy",
        "string",
        "What happens to dependents: Orphan, Background or Foreground.",
    ),
];
const LISTING: &[Parameter] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "For a watch: also send events of the type BOOKMARK.",
    ),
    (
        "continue",
        "string",
        "The token of the page before, for the next page of a list.",
    ),
    (
        "fieldSelector",
        "string",
        "Only objects whose fields have these values.",
    ),
    ("labelSelector", "string", "Only objects with these labels."),
    ("limit", "integer", "How many objects a page may have."),
    ("resourceVersion", "string", "The version to list at, or to watch from."),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is meant: Exact or NotOlderThan.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "For a watch: begin with the objects that exist.",
    ),
    ("timeoutSeconds", "integer", "After how many seconds the request ends."),
    ("watch", "boolean", "Send changes as they happen instead of a list."),
];

/// One thing that can be done at one path.
pub(super) struct Operation {
    path: String,
    /// HTTP method in lower case, as documents have it.
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    id: String,
    tag: String,
    description: String,
    parameters: Vec<Parameter>,
    body: Option<String>,
    answer: String,
    /// Group, version and kind of what it is done to.
    of: [String; 3],
    /// Of a custom resource, which has neither strategic merge patches nor protobuf.
    is_custom: bool,
}

impl Operation {
    fn patch_types(&self) -> &'static [&'static str] {
        if self.is_custom {
            &PATCH_TYPES[..3]
        } else {
            &PATCH_TYPES
        }
    }

    fn answer_types(&self) -> &'static [&'static str] {
        if self.is_custom {
            &ANSWER_TYPES[..2]
        } else {
            &ANSWER_TYPES
        }
    }

    /// The types that the operation takes and gives.
    pub(super) fn types(&self) -> impl Iterator<Item = &str> {
        [self.body.as_deref(), Some(self.answer.as_str()), Some(STATUS)]
            .into_iter()
            .flatten()
    }
}

/// All operations on these kinds.
pub(super) fn of(kinds: &[&Kind]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for kind in kinds {
        collection(kind, &mut operations);
        single(kind, &mut operations);
        subresources(kind, &mut operations);
    }
    operations
}

/// What an operation is about, before it is put into words.
struct Draft<'a> {
    kind: &'a Kind,
    /// After the resource, e.g. `/{name}/scale`.
    rest: &'a str,
    method: &'static str,
    action: &'static str,
    parameters: &'static [Parameter],
    body: Option<&'a str>,
    answer: &'a str,
}

impl Draft<'_> {
    fn operation(&self) -> Operation {
        let Self {
            kind,
            rest,
            method,
            action,
            parameters,
            body,
            answer,
        } = *self;
        let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let verb = match action {
            "get" => "read",
            "post" => "create",
            "put" => "replace",
            "deletecollection" => "delete",
            other => other,
        };
        let collection = if action == "deletecollection" { "Collection" } else { "" };
        let sub = camel(
            rest.rsplit('/')
                .next()
                .filter(|part| !part.starts_with('{'))
                .unwrap_or_default(),
        );
        let scope_name = if kind.namespaced { "Namespaced" } else { "" };
        let group = group_name(kind.group);
        let name = kind.kind;
        let number = if matches!(action, "list" | "deletecollection") {
            "objects"
        } else {
            "an object"
        };
        let words = format!("{verb} {number} of the kind {name}");
        Operation {
            path: format!("/{}{scope}/{}{rest}", group_path(kind), kind.plural),
            method,
            action,
            id: format!(
                "{verb}{}{}{collection}{scope_name}{name}{sub}",
                camel(&group),
                camel(kind.version)
            ),
            tag: format!("{group}_{}", kind.version),
            description: if sub.is_empty() {
                words
            } else {
                format!("{words}: its {}", sub.to_lowercase())
            },
            parameters: parameters.to_vec(),
            body: body.map(str::to_owned),
            answer: answer.to_owned(),
            of: subject(kind, answer),
            is_custom: kind.custom.is_some(),
        }
    }
}

/// What an operation is done to: the kind, unless a subresource has a kind of its own.
fn subject(kind: &Kind, answer: &str) -> [String; 3] {
    let own = |group: &str, version: &str, name: &str| [group, version, name].map(str::to_owned);
    match answer {
        SCALE => own("autoscaling", "v1", "Scale"),
        "io.k8s.api.core.v1.Binding" => own("", "v1", "Binding"),
        "io.k8s.api.policy.v1.Eviction" => own("policy", "v1", "Eviction"),
        "io.k8s.api.authentication.v1.TokenRequest" => own("authentication.k8s.io", "v1", "TokenRequest"),
        _ => own(kind.group, kind.version, kind.kind),
    }
}

fn collection(kind: &Kind, operations: &mut Vec<Operation>) {
    let list = match &kind.custom {
        Some(version) => crate::custom::openapi::list_name(kind, version),
        None => format!("{}List", kind.schema),
    };
    let draft = |method, action, parameters, body, answer| {
        Draft {
            kind,
            rest: "",
            method,
            action,
            parameters,
            body,
            answer,
        }
        .operation()
    };
    let all = draft("get", "list", LISTING, None, &list);
    if kind.namespaced {
        operations.push(Operation {
            path: format!("/{}/{}", group_path(kind), kind.plural),
            id: all.id.replacen("Namespaced", "", 1) + "ForAllNamespaces",
            ..draft("get", "list", LISTING, None, &list)
        });
    }
    operations.push(all);
    operations.push(draft("post", "post", WRITE, Some(kind.schema), kind.schema));
    if kind.delete_collection {
        operations.push(draft(
            "delete",
            "deletecollection",
            DELETING,
            Some(DELETE_OPTIONS),
            STATUS,
        ));
    }
}

fn single(kind: &Kind, operations: &mut Vec<Operation>) {
    let schema = kind.schema;
    let draft = |method, action, parameters, body, answer| {
        Draft {
            kind,
            rest: "/{name}",
            method,
            action,
            parameters,
            body,
            answer,
        }
        .operation()
    };
    let deleted = if kind.delete_returns_object { schema } else { STATUS };
    operations.extend([
        draft("get", "get", &[], None, schema),
        draft("put", "put", WRITE, Some(schema), schema),
        draft("delete", "delete", DELETING, Some(DELETE_OPTIONS), deleted),
        draft("patch", "patch", PATCHING, Some(PATCH), schema),
    ]);
}

fn subresources(kind: &Kind, operations: &mut Vec<Operation>) {
    let mut add = |rest, method, action, parameters, body, answer| {
        operations.push(
            Draft {
                kind,
                rest,
                method,
                action,
                parameters,
                body,
                answer,
            }
            .operation(),
        );
    };
    let with_parts = [
        ("/{name}/status", kind.has_status, kind.schema),
        ("/{name}/scale", kind.has_scale, SCALE),
    ];
    for (rest, _, schema) in with_parts.into_iter().filter(|(_, served, _)| *served) {
        add(rest, "get", "get", &[], None, schema);
        add(rest, "put", "put", WRITE, Some(schema), schema);
        add(rest, "patch", "patch", PATCHING, Some(PATCH), schema);
    }
    let created = match (kind.group, kind.kind) {
        ("", "Pod") => &[
            ("/{name}/binding", "io.k8s.api.core.v1.Binding"),
            ("/{name}/eviction", "io.k8s.api.policy.v1.Eviction"),
        ][..],
        ("", "ServiceAccount") => &[("/{name}/token", "io.k8s.api.authentication.v1.TokenRequest")][..],
        _ => &[],
    };
    for (rest, schema) in created {
        add(rest, "post", "post", WRITE, Some(schema), schema);
    }
    if kind.group.is_empty() && kind.kind == "Namespace" {
        add("/{name}/finalize", "put", "put", WRITE, Some(kind.schema), kind.schema);
    }
}

/// The group as names of operations and tags have it: without its domain.
fn group_name(group: &str) -> String {
    let name = group.strip_suffix(".k8s.io").unwrap_or(group);
    let parts: Vec<String> = name
        .split('.')
        .enumerate()
        .map(|(at, part)| if at == 0 { part.to_owned() } else { camel(part) })
        .collect();
    if name.is_empty() {
        "core".to_owned()
    } else {
        parts.concat()
    }
}

fn camel(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

/// The operations by path and method.
pub(super) fn render(operations: &[Operation], style: Style) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let item = paths
            .entry(operation.path.clone())
            .or_insert_with(|| with_parameters(json!({}), path_parameters(&operation.path, style)));
        item[operation.method] = match style {
            Style::V2 => render_v2(operation),
            Style::V3 => render_v3(operation),
        };
    }
    paths.into()
}

/// With these parameters. Where there are none the field is left out, as upstream leaves out what is empty:
/// clients that read a document, write it and read it again get the same one.
fn with_parameters(mut rendered: Value, parameters: Vec<Value>) -> Value {
    if !parameters.is_empty() {
        rendered["parameters"] = parameters.into();
    }
    rendered
}

/// The parameters that stand in the path.
fn path_parameters(path: &str, style: Style) -> Vec<Value> {
    let places = [
        ("name", "The name of the object."),
        ("namespace", "The namespace that the object is in."),
    ];
    let found = places
        .into_iter()
        .filter(|(name, _)| path.contains(&format!("{{{name}}}")));
    found
        .map(|(name, text)| parameter(&(name, "string", text), "path", style))
        .collect()
}

fn parameter((name, of, text): &Parameter, place: &str, style: Style) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": text});
    match style {
        Style::V2 => {
            parameter["type"] = json!(of);
            parameter["uniqueItems"] = json!(true);
        }
        Style::V3 => parameter["schema"] = json!({"type": of, "uniqueItems": true}),
    }
    if place == "path" {
        parameter["required"] = json!(true);
    }
    parameter
}

/// The parameters that stand in the query.
fn query_parameters(operation: &Operation, style: Style) -> Vec<Value> {
    let parameters = operation.parameters.iter();
    parameters.map(|found| parameter(found, "query", style)).collect()
}

fn common(operation: &Operation) -> Value {
    let [group, version, kind] = &operation.of;
    json!({
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    })
}

/// The codes of success, and what they mean.
fn codes(operation: &Operation) -> &'static [(&'static str, &'static str)] {
    match operation.method {
        "post" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        "put" | "patch" => &[("200", "OK"), ("201", "Created")],
        "delete" if operation.action == "delete" => &[("200", "OK"), ("202", "Accepted")],
        _ => &[("200", "OK")],
    }
}

fn render_v3(operation: &Operation) -> Value {
    let mut rendered = with_parameters(common(operation), query_parameters(operation, Style::V3));
    let content = |types: &[&str], name: &str| -> Value {
        let schema = json!({"schema": Style::V3.reference(name)});
        types
            .iter()
            .map(|media| ((*media).to_owned(), schema.clone()))
            .collect::<Map<String, Value>>()
            .into()
    };
    let answer = content(operation.answer_types(), &operation.answer);
    let mut responses: Map<String, Value> = codes(operation)
        .iter()
        .map(|(code, text)| ((*code).to_owned(), json!({"description": text, "content": answer})))
        .collect();
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    rendered["responses"] = responses.into();
    if let Some(body) = &operation.body {
        let types: &[&str] = if body == PATCH {
            operation.patch_types()
        } else {
            &["*/*"]
        };
        rendered["requestBody"] = json!({"content": content(types, body)});
        if body != DELETE_OPTIONS {
            rendered["requestBody"]["required"] = json!(true);
        }
    }
    rendered
}

fn render_v2(operation: &Operation) -> Value {
    let mut rendered = common(operation);
    let schema = Style::V2.reference(&operation.answer);
    let mut responses: Map<String, Value> = codes(operation)
        .iter()
        .map(|(code, text)| ((*code).to_owned(), json!({"description": text, "schema": schema})))
        .collect();
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    rendered["responses"] = responses.into();
    rendered["produces"] = json!(operation.answer_types());
    rendered["schemes"] = json!(["https"]);
    let mut parameters = query_parameters(operation, Style::V2);
    if let Some(body) = &operation.body {
        rendered["consumes"] = if body == PATCH {
            json!(operation.patch_types())
        } else {
            json!(["*/*"])
        };
        let schema = Style::V2.reference(body);
        let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
        if body != DELETE_OPTIONS {
            parameter["required"] = json!(true);
        }
        parameters.insert(0, parameter);
    }
    with_parameters(rendered, parameters)
}
