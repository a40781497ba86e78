//! Custom resources: kinds that are served because a CustomResourceDefinition says so.
//!
//! ```text
//!  definition ──validate──▶ stored ──names accepted──▶ Established ──kinds()──▶ Kind with a Version, per served version
//!                                                                                  │
//!                    text ──decode (prune, warn)──▶ defaults ──▶ check, rules ──▶ stored as sent ──▶ served: prune, defaults
//! ```

mod check;
mod columns;
mod decode;
mod defaulting;
pub(crate) mod definition;
mod establish;
mod formats;
mod jsonpath;
pub(crate) mod openapi;
mod rules;
pub(crate) mod schema;

use crate::error::FieldError;
use crate::kinds::{Kind, lasting};
use crate::schema::{DecodeError, Decoded, FieldValidation};
use columns::Column;
use jsonpath::Path;
use schema::Schema;
use serde_json::{Value, json};
use std::sync::Arc;

pub use establish::{CLEANUP_FINALIZER, begin_termination, settle};
pub(crate) use rules::rule_type;

/// The group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";

/// What a definition says of one version of its resource, beyond what a row of the table can say.
#[derive(Debug)]
pub struct Version {
    /// The kind of lists, e.g. `CronTabList`.
    pub list_kind: &'static str,
    /// The definition is being deleted: nothing new can be made.
    pub is_terminating: bool,
    /// What to warn of whoever uses the version; `None` if it is not deprecated.
    pub deprecation: Option<String>,
    schema: Schema,
    /// The schema of the version in which objects are stored: its defaults count for what is read.
    storage: Arc<Schema>,
    /// `JSONSchemaProps` as they were defined.
    props: Value,
    columns: Vec<Column>,
    /// The paths by which objects can be selected, with their dots: `spec.color`.
    selectable: Vec<String>,
    scale: Option<Scale>,
}

/// Where the number of replicas stands.
#[derive(Debug)]
struct Scale {
    spec: Path,
    status: Path,
    selector: Option<Path>,
}

/// Whether a kind is that of definitions.
pub fn is_definition(kind: &Kind) -> bool {
    kind.group == GROUP && kind.kind == "CustomResourceDefinition"
}

/// Whether a condition of a definition is true.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|one| one["type"] == condition && one["status"] == "True")
}

/// The kinds that an established definition makes, one for each served version.
pub fn kinds(definition: &Value) -> Vec<Kind> {
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let versions: Vec<&Value> = versions.collect();
    let stored = versions.iter().find(|version| version["storage"] == true);
    let props = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
    let storage = Arc::new(Schema::read(&stored.map(|version| props(version)).unwrap_or_default()));
    let served = versions.iter().filter(|version| version["served"] == true);
    served
        .map(|version| kind(definition, version, storage.clone()))
        .collect()
}

/// The kind under which the objects of a definition are stored, whether it is served or not.
pub fn stored_kind(definition: &Value) -> Option<Kind> {
    let versions = definition["spec"]["versions"].as_array()?;
    let stored = versions.iter().find(|version| version["storage"] == true)?;
    let schema = Schema::read(&stored["schema"]["openAPIV3Schema"]);
    Some(kind(definition, stored, Arc::new(schema)))
}

fn kind(definition: &Value, version: &Value, storage: Arc<Schema>) -> Kind {
    let names = &definition["status"]["acceptedNames"];
    let text = |value: &Value| lasting(value.as_str().unwrap_or_default());
    let list = |value: &Value| -> &'static [&'static str] {
        let words: Vec<&'static str> = value.as_array().into_iter().flatten().map(text).collect();
        lasting_list(&words)
    };
    let group = text(&definition["spec"]["group"]);
    let name = text(&version["name"]);
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored = versions.into_iter().find(|version| version["storage"] == true);
    let storage_version = stored.map_or(name, |stored| text(&stored["name"]));
    let subresources = &version["subresources"];
    let has_status = subresources["status"].is_object();
    let props = version["schema"]["openAPIV3Schema"].clone();
    let custom = Version {
        list_kind: text(&names["listKind"]),
        is_terminating: is_true(definition, "Terminating"),
        deprecation: deprecation(definition, version),
        schema: Schema::read(&props),
        storage,
        props,
        columns: Column::read_all(&version["additionalPrinterColumns"]),
        selectable: selectable(&version["selectableFields"]),
        scale: Scale::read(&subresources["scale"]),
    };
    Kind {
        group,
        version: name,
        kind: text(&names["kind"]),
        plural: text(&names["plural"]),
        singular: text(&names["singular"]),
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        namespaced: definition["spec"]["scope"] != "Cluster",
        schema: lasting(&openapi::type_name(
            group,
            name,
            names["kind"].as_str().unwrap_or_default(),
        )),
        storage_group: group,
        storage_version,
        has_status,
        has_scale: subresources["scale"].is_object(),
        has_generation: true,
        create_on_update: false,
        unconditional_update: false,
        delete_returns_object: false,
        delete_collection: true,
        acted_on: true,
        custom: Some(custom),
    }
}

/// A list of lasting names, kept once as they are.
fn lasting_list(words: &[&'static str]) -> &'static [&'static str] {
    use std::collections::HashSet;
    use std::sync::{LazyLock, Mutex};
    static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);
    let mut lists = LISTS.lock().expect("nothing panics while it holds the lists");
    if let Some(known) = lists.get(words) {
        return known;
    }
    let kept: &'static [&'static str] = Vec::leak(words.to_vec());
    lists.insert(kept);
    kept
}

fn deprecation(definition: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    let given = version["deprecationWarning"].as_str().map(str::to_owned);
    let (group, kind) = (&definition["spec"]["group"], &definition["spec"]["names"]["kind"]);
    let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(given.unwrap_or_else(|| {
        let name = plain(&version["name"]);
        format!("{}/{name} {} is deprecated", plain(group), plain(kind))
    }))
}

fn selectable(fields: &Value) -> Vec<String> {
    let paths = fields.as_array().into_iter().flatten();
    let paths = paths.filter_map(|field| field["jsonPath"].as_str());
    paths.map(|path| path.trim_start_matches('.').to_owned()).collect()
}

impl Scale {
    fn read(scale: &Value) -> Option<Self> {
        let path = |name: &str| Path::parse(scale[name].as_str()?);
        Some(Self {
            spec: path("specReplicasPath")?,
            status: path("statusReplicasPath")?,
            selector: path("labelSelectorPath"),
        })
    }
}

impl Version {
    /// Decodes the text of an object: unknown fields are dropped and told of.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(&self, text: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
        decode::text(&self.schema, text, validation)
    }

    /// Like [`Version::decode`] for what is parsed already.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_value(&self, value: Value, validation: FieldValidation) -> Result<Decoded, DecodeError> {
        decode::value(&self.schema, value, validation)
    }

    /// Fills in the defaults of a written object.
    pub(crate) fn fill_defaults(&self, object: &mut Value) {
        defaulting::fill(&self.schema, object, true);
    }

    /// Turns a stored object into what this version shows of it: with the defaults that came after it was stored, and
    /// without what this version does not know.
    pub fn show(&self, object: &mut Value) {
        let mut unknown = Vec::new();
        decode::prune(&self.storage, object, true, "", &mut unknown);
        defaulting::fill(&self.storage, object, true);
        decode::prune(&self.schema, object, true, "", &mut unknown);
    }

    /// What is wrong with an object; what has not changed is let pass.
    pub(crate) fn check(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut errors = check::object(&self.schema, new, old);
        // Rules may rely on what the schema says.
        if errors.is_empty() {
            errors = rules::object(&self.schema, new, old);
        }
        errors
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The definitions of the columns after the name.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Value> {
        self.columns.iter().map(Column::definition)
    }

    /// The cells after the name.
    pub(crate) fn cells(&self, object: &Value, now_s: i64) -> impl Iterator<Item = Value> {
        self.columns.iter().map(move |column| column.cell(object, now_s))
    }

    /// Whether objects can be selected by a field.
    pub(crate) fn selects_by(&self, field: &str) -> bool {
        self.selectable.iter().any(|one| one == field)
    }

    /// `spec`, `status` and the selector's text of the object's `Scale`.
    pub fn scale(&self, object: &Value) -> Option<(i64, i64, String)> {
        let scale = self.scale.as_ref()?;
        let number = |path: &Path| path.first(object).and_then(Value::as_i64).unwrap_or(0);
        let selector = scale.selector.as_ref().and_then(|path| path.first(object));
        let selector = selector.and_then(Value::as_str).unwrap_or_default().to_owned();
        Some((number(&scale.spec), number(&scale.status), selector))
    }

    /// Sets the number of replicas that an object wants.
    pub fn set_replicas(&self, object: &mut Value, replicas: i64) {
        let names = self.scale.as_ref().and_then(|scale| scale.spec.names());
        let mut place = object;
        for name in names.unwrap_or_default() {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[name];
        }
        *place = json!(replicas);
    }
}

#[cfg(test)]
mod tests;
