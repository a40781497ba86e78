//! Request bodies: size limit, text format, and decoding into objects.

use crate::call::Call;
use crate::status::{Outcome, bad_request, body_too_large, unsupported_body, virtual_kind};
use api::error::{FieldError, FieldErrorType, Status};
use api::kinds::Kind;
use api::protobuf;
use api::schema::{self, DecodeError, FieldValidation};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

/// The largest body taken, upstream's limit.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How much YAML aliases may add to a document: enough for whoever saves some lines, too little to keep the server busy.
const ALIAS_EVENTS_MAX: usize = 10_000;

/// Reads a whole body.
pub(crate) async fn read(body: Body) -> Outcome<Bytes> {
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(body_too_large(BODY_BYTES_MAX)),
        Err(error) => Err(bad_request(format!("the request body cannot be read: {error}"))),
    }
}

/// The media type of a request, without parameters; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

/// The JSON text of a body that is JSON, YAML or protobuf.
pub(crate) fn json_text(headers: &HeaderMap, body: Bytes) -> Outcome<Bytes> {
    match media_type(headers) {
        "" | "application/json" => Ok(body),
        "application/yaml" => Ok(Bytes::from(yaml(&body)?.to_string())),
        protobuf::MEDIA_TYPE => {
            let object = protobuf::decode(&body).map_err(|error| bad_request(error.to_string()))?;
            Ok(Bytes::from(object.to_string()))
        }
        _ => Err(unsupported_body()),
    }
}

/// Reads one YAML (or JSON) document.
pub(crate) fn yaml(text: &[u8]) -> Outcome<Value> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok(value);
    }
    parse_yaml(text, DuplicateKeyPolicy::Error)
        .map_err(|error| bad_request(format!("error converting YAML to JSON: {error}")))
}

/// Like [`yaml`], where the last one of fields that stand twice counts; says where the first of them stands.
pub(crate) fn yaml_with_doubles(text: &[u8]) -> Outcome<(Value, Option<String>)> {
    if let Ok(value) = serde_json::from_slice(text) {
        return Ok((value, None));
    }
    let malformed = |error| bad_request(format!("error decoding YAML: error converting YAML to JSON: {error}"));
    match parse_yaml(text, DuplicateKeyPolicy::Error) {
        Ok(value) => Ok((value, None)),
        Err(error) => match error.without_snippet() {
            serde_saphyr::Error::DuplicateMappingKey { key, location } => {
                let (line, key) = (location.line(), key.clone().unwrap_or_default());
                let note = format!(
                    "error converting YAML to JSON: yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map"
                );
                let value = parse_yaml(text, DuplicateKeyPolicy::LastWins).map_err(malformed)?;
                Ok((value, Some(note)))
            }
            _ => Err(malformed(error)),
        },
    }
}

fn parse_yaml(text: &[u8], duplicate_keys: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_EVENTS_MAX },
    };
    serde_saphyr::from_slice_with_options(text, options)
}

/// Decodes the object that a create or update carries and checks that it is of the kind its path says.
pub(crate) fn object(call: &mut Call, text: &Bytes) -> Outcome<Value> {
    let kind = &call.kind.clone();
    check_type(kind, text)?;
    if kind.custom.is_some() && media_type(&call.headers) == protobuf::MEDIA_TYPE {
        return Err(unsupported_body());
    }
    let decoded = match &kind.custom {
        Some(version) => version.decode(text, call.write.field_validation),
        None => schema::decode(kind.schema, text, call.write.field_validation),
    };
    let decoded = decoded.map_err(|error| cannot_be_handled(kind, text, &error))?;
    call.warn(decoded.warnings);
    Ok(with_type(kind, decoded.object))
}

/// Decodes an object that is the outcome of a patch; what is wrong with it is said of the patch.
pub(crate) fn patched(call: &mut Call, object: Value, patch: &Value) -> Outcome<Value> {
    let kind = &call.kind.clone();
    let decoded = decode_value(kind, object, call.write.field_validation).map_err(|error| {
        let error = FieldError {
            error: FieldErrorType::Invalid,
            field: "patch".to_owned(),
            value: Some(Value::from(patch.to_string())),
            detail: error.to_string(),
        };
        Box::new(Status::invalid(&virtual_kind("", ""), "", &[error]))
    })?;
    call.warn(decoded.warnings);
    Ok(with_type(kind, decoded.object))
}

/// Decodes an object that is parsed already.
pub(crate) fn decode_value(
    kind: &Kind,
    object: Value,
    validation: FieldValidation,
) -> Result<schema::Decoded, DecodeError> {
    match &kind.custom {
        Some(version) => version.decode_value(object, validation),
        None => schema::decode_value(kind.schema, object, validation),
    }
}

fn with_type(kind: &Kind, mut object: Value) -> Value {
    object["kind"] = Value::from(kind.kind);
    object["apiVersion"] = Value::from(kind.api_version());
    object
}

#[derive(serde::Deserialize)]
struct Type {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
}

fn check_type(kind: &Kind, text: &Bytes) -> Outcome<()> {
    let found: Type = serde_json::from_slice(text).map_err(|error| {
        let shown = String::from_utf8_lossy(&text[..text.len().min(256)]);
        let error = json_error(&error);
        let must = format!("the object provided is unrecognized (must be of type {})", kind.kind);
        bad_request(format!(
            "{must}: couldn't get version/kind; json parse error: {error} ({shown})"
        ))
    })?;
    let (api_version, expected) = (found.api_version, kind.api_version());
    if !found.kind.is_empty() && found.kind != kind.kind {
        let (wrong, right) = (found.kind, kind.kind);
        let why = format!("converting ({wrong}) to ({right}): unknown conversion");
        return Err(bad_request(format!(
            "{wrong} in version {api_version:?} cannot be handled as a {right}: {why}"
        )));
    }
    if !api_version.is_empty() && api_version != expected {
        let message =
            format!("the API version in the data ({api_version}) does not match the expected API version ({expected})");
        return Err(bad_request(message));
    }
    Ok(())
}

/// A JSON error in the words that clients know.
fn json_error(error: &serde_json::Error) -> String {
    if error.is_eof() {
        "unexpected end of JSON input".to_owned()
    } else {
        error.to_string()
    }
}

fn cannot_be_handled(kind: &Kind, _text: &Bytes, error: &DecodeError) -> Box<Status> {
    let (name, version) = (kind.kind, kind.api_version());
    let version = version.rsplit('/').next().unwrap_or(&version);
    bad_request(format!(
        "{name} in version {version:?} cannot be handled as a {name}: {error}"
    ))
}
