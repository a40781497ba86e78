//! `cargo xtask gen-fields GO_DIR`: turns the published Go types of Kubernetes' API into
//! `crates/api/src/protobuf/fields.txt`: the numbers, names and types of all fields; no prose.
//!
//! The Go types are read rather than `generated.proto`, because only they say which fields are pointers, and so whether
//! a zero is written or means "absent". The format is explained at the top of the table.

use crate::go_types::{Declarations, Declared, Shape};
use anyhow::{Context, bail};
use std::fmt::Write;
use std::path::Path;

const PROVENANCE: &str = "\
# Field numbers of the Kubernetes API in its protobuf form, facts of the published Go types of k8s.io/api and
# k8s.io/apimachinery (Apache-2.0), release 1.36, made by `cargo xtask gen-fields GO_DIR`. Do not edit.
# One line per message, then one per field: NUMBER NAME SHAPE. NAME is that of the JSON form, `~` for a message whose
# fields stand in the JSON of the outer one. SHAPE is `[]` (repeated) or `{}` (map by string) before a word or `@MESSAGE`;
# `?` after it says that a zero value differs from an absent one.
";

/// Types of `meta.v1` that no object holds and no request carries.
const LEFT_OUT: &[&str] = &[
    "meta.v1.APIGroup",
    "meta.v1.APIGroupList",
    "meta.v1.APIResource",
    "meta.v1.APIResourceList",
    "meta.v1.APIVersions",
    "meta.v1.ApplyOptions",
    "meta.v1.CreateOptions",
    "meta.v1.GetOptions",
    "meta.v1.GroupVersionForDiscovery",
    "meta.v1.ListOptions",
    "meta.v1.PatchOptions",
    "meta.v1.RootPaths",
    "meta.v1.ServerAddressByClientCIDR",
    "meta.v1.TableOptions",
    "meta.v1.TypeMeta",
    "meta.v1.UpdateOptions",
];

/// Writes the table.
pub(crate) fn run(dir: &Path) -> anyhow::Result<()> {
    let all = Declarations::read(dir)?;
    let mut messages: Vec<(String, String)> = Vec::new();
    for (name, entry) in &all.types {
        let Declared::Struct(fields) = &entry.declared else {
            continue;
        };
        let mut message = String::new();
        let mut fields: Vec<_> = fields.iter().collect();
        fields.sort_by_key(|field| field.number);
        for field in &fields {
            let Some(number) = field.number else { continue };
            let json = if field.json.is_empty() { "~" } else { &field.json };
            let shape = shape(&all, &field.shape).with_context(|| format!("{name}: {json}"))?;
            writeln!(message, " {number} {json} {shape}")?;
        }
        let is_written = (!message.is_empty() || fields.is_empty()) && (!entry.is_kind || !name.ends_with("List"));
        let name = message_name(name);
        if is_written && !LEFT_OUT.contains(&name.as_str()) {
            messages.push((name, message));
        }
    }
    messages.sort();
    let mut table = PROVENANCE.to_owned();
    for (name, fields) in messages {
        write!(table, "{name}\n{fields}")?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent folder")?;
    std::fs::write(root.join("crates/api/src/protobuf/fields.txt"), table).context("write the table")
}

/// The last three parts of a schema's name: group, version and type.
fn message_name(schema: &str) -> String {
    let start = schema.rmatch_indices('.').nth(2).map_or(0, |(at, _)| at + 1);
    schema[start..].to_owned()
}

fn shape(all: &Declarations, of: &Shape) -> anyhow::Result<String> {
    if let Shape::Named(name) = of
        && let Some(word) = special(name)
    {
        return Ok(word.to_owned());
    }
    Ok(match all.resolve(of) {
        Shape::Word(word) => match word.as_str() {
            "string" | "bool" => word.clone(),
            "int" | "int32" | "int64" => "int".to_owned(),
            "float64" => "double".to_owned(),
            _ => bail!("no form is known for the Go type {word}"),
        },
        Shape::Pointer(inner) => format!("{}?", shape(all, inner)?),
        Shape::List(inner) if **inner == Shape::Word("byte".to_owned()) => "bytes".to_owned(),
        Shape::List(inner) => format!("[]{}", shape(all, inner)?),
        Shape::Map(inner) => match all.resolve(inner) {
            Shape::List(item) if *all.resolve(item) == Shape::Word("string".to_owned()) => "{}items".to_owned(),
            _ => format!("{{}}{}", shape(all, inner)?),
        },
        Shape::Named(name) => match special(name) {
            Some(word) => word.to_owned(),
            None => format!("@{}", message_name(name)),
        },
    })
}

/// Types that are written in a way of their own.
fn special(name: &str) -> Option<&'static str> {
    Some(match message_name(name).as_str() {
        "api.resource.Quantity" => "quantity",
        "meta.v1.Time" => "time",
        "meta.v1.MicroTime" => "microtime",
        "util.intstr.IntOrString" => "intorstring",
        "pkg.runtime.RawExtension" | "meta.v1.FieldsV1" | "apiextensions.v1.JSON" => "json",
        "apiextensions.v1.JSONSchemaPropsOrArray" => "schema-or-array",
        "apiextensions.v1.JSONSchemaPropsOrBool" => "schema-or-bool",
        "apiextensions.v1.JSONSchemaPropsOrStringArray" => "schema-or-strings",
        _ => return None,
    })
}
