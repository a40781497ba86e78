//! What form an answer takes: JSON, YAML or protobuf; the objects themselves, a `Table`, or only their metadata.

use crate::query::Query;
use crate::status::{Outcome, bad_request, not_acceptable};
use api::protobuf;
use http::{HeaderMap, header};

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Protobuf,
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
    /// The `apiVersion` of a `Table` or `PartialObjectMetadata`.
    pub(crate) meta: &'static str,
}

/// The version of tables and metadata that is told where nothing else is asked for.
const META: &str = "meta.k8s.io/v1";
/// The version that old clients ask for: the same under another name.
const META_BETA: &str = "meta.k8s.io/v1beta1";

impl Form {
    pub(crate) const JSON: Self = Self {
        format: Format::Json,
        view: View::Whole,
        pretty: false,
        meta: META,
    };

    /// Whether the bytes kept ready can be sent as they are.
    pub(crate) fn is_ready_made(self) -> bool {
        self == Self::JSON
    }
}

/// Agrees on a form with the client; `has_protobuf` is whether what is asked for has that form.
pub(crate) fn form(headers: &HeaderMap, query: &Query, has_protobuf: bool) -> Outcome<Form> {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let accept = accept.collect::<Vec<_>>().join(",");
    let include = match query.get("includeObject") {
        Some("None") => Include::None,
        Some("Object") => Include::Object,
        None | Some("" | "Metadata") => Include::Metadata,
        Some(_) if !accept.contains("as=Table") => Include::Metadata,
        Some(other) => {
            let message = "must be 'Metadata', 'Object', 'None', or empty";
            let message =
                format!("Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: {message}");
            return Err(bad_request(message));
        }
    };
    let (format, view, meta) = if accept.trim().is_empty() {
        (Format::Json, View::Whole, META)
    } else {
        let mut clauses: Vec<&str> = accept.split(',').collect();
        clauses.sort_by_key(|clause| preference(clause));
        clauses
            .into_iter()
            .find_map(|clause| clause_form(clause, include, has_protobuf))
            .ok_or_else(not_acceptable)?
    };
    let pretty = format == Format::Json && view == View::Whole && wants_pretty(headers, query);
    Ok(Form {
        format,
        view,
        pretty,
        meta,
    })
}

/// Where a clause of `Accept` stands among the others: by its weight, then what names a type before what does not.
fn preference(clause: &str) -> (u32, usize) {
    let weight = clause.split(';').find_map(|part| part.trim().strip_prefix("q="));
    let weight = weight
        .and_then(|weight| weight.trim().parse::<f64>().ok())
        .unwrap_or(1.0);
    let thousandths = (weight.clamp(0.0, 1.0) * 1000.0).round();
    // A weight has three digits at most.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1000"
    )]
    let thousandths = thousandths as u32;
    (1000 - thousandths, clause.matches('*').count())
}

/// The form that one clause of `Accept` asks for, if we have it.
fn clause_form(clause: &str, include: Include, has_protobuf: bool) -> Option<(Format, View, &'static str)> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        protobuf::MEDIA_TYPE => Format::Protobuf,
        _ => return None,
    };
    let parameters: Vec<(&str, &str)> = parts.filter_map(|parameter| parameter.split_once('=')).collect();
    let parameter = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let view = match parameter("as") {
        None => View::Whole,
        Some(_) if parameter("g").is_some_and(|group| group != "meta.k8s.io") => return None,
        Some("Table") if format != Format::Protobuf => View::Table(include),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => View::Metadata,
        Some(_) => return None,
    };
    let meta = match parameter("v") {
        Some("v1beta1") if view != View::Whole => META_BETA,
        Some(version) if view != View::Whole && version != "v1" => return None,
        _ => META,
    };
    // Metadata alone has this form whatever it is of.
    if format == Format::Protobuf && !has_protobuf && view != View::Metadata {
        return None;
    }
    Some((format, view, meta))
}

/// Whether errors are to be told in protobuf.
pub(crate) fn errors_in_protobuf(headers: &HeaderMap) -> bool {
    form(headers, &Query::default(), true).is_ok_and(|form| form.format == Format::Protobuf)
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
        form(&headers, &Query::default(), true)
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
            Ok((Format::Protobuf, View::Whole))
        );
        assert_eq!(
            agreed(
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io"
            ),
            Ok(table)
        );
        assert_eq!(
            agreed("application/yaml;q=0.5, */*;q=0.8, application/json;q=0.9"),
            Ok((Format::Json, View::Whole))
        );
        assert_eq!(agreed("application/yaml"), Ok((Format::Yaml, View::Whole)));
        assert_eq!(agreed("*/*"), Ok((Format::Json, View::Whole)));
        assert_eq!(agreed("application/cbor"), Err(406));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
                        application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(agreed(metadata), Ok((Format::Protobuf, View::Metadata)));
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json";
        assert_eq!(agreed(old), Ok(table));
        assert_eq!(agreed("application/json;as=Table;v=v2;g=meta.k8s.io"), Err(406));
    }
}
