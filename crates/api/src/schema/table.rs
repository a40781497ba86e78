//! The table of types in `table.txt`, parsed once, on first use.
//!
//! One line per type, `type NAME FORM [map=atomic] [gvk=GROUP/VERSION/KIND]`, then one line per field, indented by a
//! space: `NAME TYPE [!] [zero=JSON] [default=JSON] [enum=JSON] [keys=JSON] [list=KIND] [map=KIND] [patch=STRATEGY]
//! [merge-key=NAME]`. `!` is "required"; TYPE is `[]` (array) or `{}` (map) before another type, `@` before the name
//! of one, or a plain word. Types and fields are sorted by name.

use std::sync::OnceLock;

const TEXT: &str = include_str!("table.txt");

/// A type's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TypeId(usize);

/// What values a type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An object with the fields listed.
    Struct,
    /// An object of any content.
    Object,
    /// Any JSON value.
    Any,
    /// A resource quantity.
    Quantity,
    /// A time in seconds.
    Time,
    /// A time in microseconds.
    MicroTime,
    /// A 32 bit integer or a string.
    IntOrString,
}

/// The type of a field, an item or a map's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    String,
    Int32,
    Int64,
    Double,
    Bool,
    /// Base64 text.
    Byte,
    Any,
    Named(TypeId),
    Array(Box<Self>),
    Map(Box<Self>),
}

/// How a list is merged and owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    /// As one value.
    Atomic,
    /// Each item is a value of its own.
    Set,
    /// Items are told apart by these keys.
    Map(Vec<&'static str>),
}

/// One field of a struct.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    /// What Go writes when the field is not set, as JSON; `None` if it leaves the field out.
    pub(crate) zero: Option<&'static str>,
    pub(crate) default: Option<&'static str>,
    pub(crate) allowed: Option<&'static str>,
    /// As published (without what follows from the patch strategy).
    pub(crate) list_type: Option<&'static str>,
    pub(crate) list: ListKind,
    pub(crate) map_type: Option<&'static str>,
    pub(crate) patch: Option<&'static str>,
    pub(crate) merge_key: Option<&'static str>,
}

/// One type.
#[derive(Debug)]
pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) atomic: bool,
    /// Group, version and kind, of types that are objects of their own.
    pub(crate) kind: Option<[&'static str; 3]>,
    pub(crate) fields: Vec<Field>,
}

impl Field {
    /// Whether a strategic merge patch merges the list rather than replacing it.
    pub(crate) fn merges(&self) -> bool {
        self.has_strategy("merge")
    }

    /// Whether the patch strategies of the field contain `strategy`.
    pub(crate) fn has_strategy(&self, strategy: &str) -> bool {
        self.patch
            .is_some_and(|list| list.split(',').any(|word| word == strategy))
    }

    /// Whether a map or struct is owned as one value.
    pub(crate) fn atomic_map(&self) -> bool {
        self.map_type == Some("atomic")
    }
}

impl Type {
    /// The field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<(usize, &Field)> {
        let at = self.fields.binary_search_by(|field| field.name.cmp(name)).ok()?;
        Some((at, &self.fields[at]))
    }

    /// The name as Go prints it, e.g. `v1.PodSpec`.
    pub(crate) fn go_name(&self) -> &'static str {
        let dot = self.name.rmatch_indices('.').nth(1).map_or(0, |(at, _)| at + 1);
        &self.name[dot..]
    }

    /// The name without its package, e.g. `PodSpec`.
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// All types, sorted by name.
pub(crate) fn types() -> &'static [Type] {
    static TABLE: OnceLock<Vec<Type>> = OnceLock::new();
    TABLE.get_or_init(parse)
}

/// The type of this name.
pub(crate) fn by_name(name: &str) -> Option<&'static Type> {
    let types = types();
    types
        .binary_search_by(|entry| entry.name.cmp(name))
        .ok()
        .map(|at| &types[at])
}

/// The type at this place.
pub(crate) fn by_id(id: TypeId) -> &'static Type {
    &types()[id.0]
}

fn parse() -> Vec<Type> {
    let lines = || TEXT.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = lines()
        .filter_map(|line| line.strip_prefix("type "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let mut types: Vec<Type> = Vec::with_capacity(names.len());
    for line in lines() {
        if let Some(field) = line.strip_prefix(' ') {
            let of = types.last_mut().expect("the table starts with a type");
            of.fields.push(parse_field(field, &names));
        } else if let Some(rest) = line.strip_prefix("type ") {
            types.push(parse_type(rest));
        }
    }
    types
}

fn parse_type(line: &'static str) -> Type {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let form = match words.next().unwrap_or_default() {
        "struct" => Form::Struct,
        "object" => Form::Object,
        "quantity" => Form::Quantity,
        "time" => Form::Time,
        "microtime" => Form::MicroTime,
        "int-or-string" => Form::IntOrString,
        _ => Form::Any,
    };
    let mut entry = Type {
        name,
        form,
        atomic: false,
        kind: None,
        fields: Vec::new(),
    };
    for word in words {
        if let Some(kind) = word.strip_prefix("gvk=") {
            let mut parts = kind.split('/');
            entry.kind = Some([(); 3].map(|()| parts.next().unwrap_or_default()));
        } else if word == "map=atomic" {
            entry.atomic = true;
        }
    }
    entry
}

fn parse_field(line: &'static str, names: &[&str]) -> Field {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let shape = parse_shape(words.next().unwrap_or_default(), names);
    let mut field = Field {
        name,
        shape,
        required: false,
        zero: None,
        default: None,
        allowed: None,
        list_type: None,
        list: ListKind::Atomic,
        map_type: None,
        patch: None,
        merge_key: None,
    };
    let mut keys = "";
    for word in words {
        match word.split_once('=') {
            None => field.required = true,
            Some(("zero", value)) => field.zero = Some(value),
            Some(("default", value)) => field.default = Some(value),
            Some(("enum", value)) => field.allowed = Some(value),
            Some(("keys", value)) => keys = value,
            Some(("list", value)) => field.list_type = Some(value),
            Some(("map", value)) => field.map_type = Some(value),
            Some(("patch", value)) => field.patch = Some(value),
            Some(("merge-key", value)) => field.merge_key = Some(value),
            Some(_) => {}
        }
    }
    field.list = list_kind(&field, keys);
    field
}

/// As upstream's conversion of schemas has it: the list type, else what the patch strategy implies, else atomic.
fn list_kind(field: &Field, keys: &'static str) -> ListKind {
    match (field.list_type, field.merge_key) {
        (Some("set"), _) => ListKind::Set,
        (Some("map"), _) => ListKind::Map(
            keys.trim_matches(['[', ']'])
                .split(',')
                .map(|key| key.trim_matches('"'))
                .collect(),
        ),
        (None, Some(key)) if field.merges() => ListKind::Map(vec![key]),
        (None, None) if field.merges() => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

fn parse_shape(text: &str, names: &[&str]) -> Shape {
    if let Some(item) = text.strip_prefix("[]") {
        return Shape::Array(Box::new(parse_shape(item, names)));
    }
    if let Some(value) = text.strip_prefix("{}") {
        return Shape::Map(Box::new(parse_shape(value, names)));
    }
    if let Some(name) = text.strip_prefix('@') {
        return names
            .binary_search(&name)
            .map_or(Shape::Any, |at| Shape::Named(TypeId(at)));
    }
    match text {
        "string" => Shape::String,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "bool" => Shape::Bool,
        "byte" => Shape::Byte,
        _ => Shape::Any,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_name_in_it_is_known() {
        assert!(types().len() > 400);
        assert!(types().is_sorted_by(|a, b| a.name < b.name));
        for entry in types() {
            assert!(entry.fields.is_sorted_by(|a, b| a.name < b.name), "{}", entry.name);
            assert!(
                entry.fields.len() <= 128,
                "the decoder's set of seen fields has 128 places"
            );
        }
        for line in TEXT.lines().filter(|line| line.starts_with(' ')) {
            if let Some((_, name)) = line.split(' ').nth(2).and_then(|shape| shape.split_once('@')) {
                assert!(by_name(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn list_kinds_follow_the_list_type_then_the_patch_strategy() {
        let list = |name: &str, field: &str| by_name(name).unwrap().field(field).unwrap().1.list.clone();
        assert_eq!(
            list("io.k8s.api.core.v1.Container", "ports"),
            ListKind::Map(vec!["containerPort", "protocol"])
        );
        assert_eq!(list("io.k8s.api.core.v1.Container", "command"), ListKind::Atomic);
        assert_eq!(
            list("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers"),
            ListKind::Set
        );
        assert_eq!(list("io.k8s.api.core.v1.PodStatus", "hostIPs"), ListKind::Atomic);
        assert_eq!(
            list("io.k8s.api.apps.v1.StatefulSetSpec", "volumeClaimTemplates"),
            ListKind::Atomic
        );
    }

    #[test]
    fn go_names() {
        let spec = by_name("io.k8s.api.core.v1.PodSpec").unwrap();
        assert_eq!((spec.go_name(), spec.short_name()), ("v1.PodSpec", "PodSpec"));
    }
}
