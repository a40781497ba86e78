//! What form an answer takes: JSON or YAML; the objects themselves, a `Table`, or only their metadata.

use crate::query::Query;
use crate::status::{Outcome, not_acceptable};
use http::{HeaderMap, header};

/// The text format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// How much of an object a table row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// What is shown of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    Table(Include),
    /// `PartialObjectMetadata`.
    Metadata,
}

/// The agreed form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) format: Format,
    pub(crate) view: View,
    /// Indented for people.
    pub(crate) pretty: bool,
}

impl Form {
    pub(crate) const JSON: Self = Self {
        format: Format::Json,
        view: View::Whole,
        pretty: false,
    };

    /// Whether the bytes kept ready can be sent as they are.
    pub(crate) fn is_ready_made(self) -> bool {
        self == Self::JSON
    }
}

/// Agrees on a form with the client.
pub(crate) fn form(headers: &HeaderMap, query: &Query) -> Outcome<Form> {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let accept = accept.collect::<Vec<_>>().join(",");
    let include = match query.get("includeObject") {
        Some("None") => Include::None,
        Some("Object") => Include::Object,
        _ => Include::Metadata,
    };
    let (format, view) = if accept.trim().is_empty() {
        (Format::Json, View::Whole)
    } else {
        accept
            .split(',')
            .find_map(|clause| clause_form(clause, include))
            .ok_or_else(not_acceptable)?
    };
    let pretty = format == Format::Json && view == View::Whole && wants_pretty(headers, query);
    Ok(Form { format, view, pretty })
}

/// The form that one clause of `Accept` asks for, if we have it.
fn clause_form(clause: &str, include: Include) -> Option<(Format, View)> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        _ => return None,
    };
    let parameters: Vec<(&str, &str)> = parts.filter_map(|parameter| parameter.split_once('=')).collect();
    let parameter = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let view = match parameter("as") {
        None => View::Whole,
        Some(_) if parameter("g").is_some_and(|group| group != "meta.k8s.io") => return None,
        Some("Table") => View::Table(include),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => View::Metadata,
        Some(_) => return None,
    };
    // Only v1 of the transformations is made; clients list v1beta1 as their second choice.
    if view != View::Whole && parameter("v").is_some_and(|version| version != "v1") {
        return None;
    }
    Some((format, view))
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    query.flag("pretty").unwrap_or_else(|| {
        let agent = headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or("");
        ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|person| agent.starts_with(person))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn agreed(accept: &'static str) -> Result<(Format, View), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        form(&headers, &Query::default())
            .map(|form| (form.format, form.view))
            .map_err(|status| status.code)
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        let table = (Format::Json, View::Table(Include::Metadata));
        assert_eq!(
            agreed("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            Ok(table)
        );
        assert_eq!(
            agreed("application/vnd.kubernetes.protobuf, application/json"),
            Ok((Format::Json, View::Whole))
        );
        assert_eq!(agreed("application/yaml"), Ok((Format::Yaml, View::Whole)));
        assert_eq!(agreed("*/*"), Ok((Format::Json, View::Whole)));
        assert_eq!(agreed("application/cbor"), Err(406));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(agreed(metadata), Ok((Format::Json, View::Metadata)));
    }
}
