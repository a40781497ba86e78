//! Manifests: reading YAML files with many documents, applying them by server-side apply.

use anyhow::{Context, bail};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// The file, and the number of the document in it, for messages.
    pub(crate) origin: String,
    /// The object.
    pub(crate) object: Value,
}

/// Reads all documents of `files`; `-` is standard input. Lists are taken apart, empty documents left out.
///
/// # Errors
/// A file that cannot be read, a document that is no YAML or has no apiVersion, kind or name.
pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut all = Vec::new();
    for file in files {
        let text = if file == Path::new("-") {
            std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
        } else {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        };
        all.extend(parse(&text, &file.display().to_string())?);
    }
    Ok(all)
}

fn parse(text: &str, file: &str) -> anyhow::Result<Vec<Manifest>> {
    // `defaultMode: 0644` means octal to everybody who writes manifests.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| anyhow::anyhow!("{file} is no valid YAML: {error}"))?;
    let mut manifests = Vec::new();
    for (number, document) in documents.into_iter().enumerate().filter(|(_, d)| !d.is_null()) {
        let origin = format!("{file}, document {}", number + 1);
        let items = match document.get("items") {
            Some(Value::Array(items)) if document["kind"].as_str().is_some_and(|k| k.ends_with("List")) => {
                items.clone()
            }
            _ => vec![document],
        };
        for object in items {
            for field in ["/apiVersion", "/kind", "/metadata/name"] {
                if object.pointer(field).and_then(Value::as_str).is_none_or(str::is_empty) {
                    bail!("{origin}: {}: Required value", field[1..].replace('/', "."));
                }
            }
            manifests.push(Manifest {
                origin: origin.clone(),
                object,
            });
        }
    }
    Ok(manifests)
}

/// An applied object.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    /// As in `statefulset.apps/web`.
    pub(crate) title: String,
    /// The object's kind.
    pub(crate) kind: String,
    /// The namespace; `None` for objects of the cluster.
    pub(crate) namespace: Option<String>,
    /// The object's name.
    pub(crate) name: String,
}

/// Applies manifests in order (server-side, as manager `steadfast-up`).
///
/// # Errors
/// The first refusal, with the fields that are wrong; what was applied before stays.
pub(crate) async fn apply(client: &Client, manifests: &[Manifest]) -> anyhow::Result<Vec<Applied>> {
    let mut applied = Vec::new();
    for manifest in manifests {
        applied.push(
            apply_one(client, manifest)
                .await
                .with_context(|| manifest.origin.clone())?,
        );
    }
    Ok(applied)
}

async fn apply_one(client: &Client, manifest: &Manifest) -> anyhow::Result<Applied> {
    let object: DynamicObject = serde_json::from_value(manifest.object.clone())?;
    let types = object.types.clone().unwrap_or_default();
    let gvk = GroupVersionKind::try_from(&types).context("apiVersion is not of the form group/version")?;
    let (resource, capabilities) = discovery::pinned_kind(client, &gvk)
        .await
        .map_err(|_| anyhow::anyhow!("no kind {:?} is served in {:?}", types.kind, types.api_version))?;
    let namespace = match capabilities.scope {
        Scope::Cluster => None,
        Scope::Namespaced => Some(object.namespace().unwrap_or_else(|| "default".to_owned())),
    };
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object.name_any();
    let group = if resource.group.is_empty() {
        String::new()
    } else {
        format!(".{}", resource.group)
    };
    let title = format!("{}{group}/{name}", resource.kind.to_lowercase());
    let parameters = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::apply("steadfast-up").force()
    };
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .map_err(explain)
        .with_context(|| title.clone())?;
    Ok(Applied {
        title,
        kind: resource.kind,
        namespace,
        name,
    })
}

/// The server's refusal in its own words, without the client library's frame around them.
pub(crate) fn explain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("{}", status.message),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let text = "
apiVersion: v1
kind: Service
metadata: {name: a}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}
";
        let names: Vec<_> = parse(text, "f")
            .unwrap()
            .iter()
            .map(|m| m.object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn a_missing_name_is_told_with_its_path() {
        let error = parse("apiVersion: v1\nkind: Pod\n", "f.yaml").unwrap_err().to_string();
        assert_eq!(error, "f.yaml, document 1: metadata.name: Required value");
    }

    #[test]
    fn a_mode_with_a_leading_zero_is_octal() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {mode: 0644}\n";
        assert_eq!(parse(text, "f").unwrap()[0].object["spec"]["mode"], 420);
    }
}
