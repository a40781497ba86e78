//! Answers: an object or a list in the form agreed on.

use crate::call::Call;
use crate::list_body::{LIST_END, ListBody, list_head};
use crate::negotiate::{Form, Format, View};
use crate::status::{Outcome, internal};
use crate::stored::Stored;
use crate::table;
use api::kinds::Kind;
use api::protobuf;
use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// Objects of one kind as they are listed.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) items: Vec<Stored>,
    /// `metadata` of the list.
    pub(crate) metadata: Value,
}

/// A body with its media type.
type Content = (Vec<u8>, &'static str);

const JSON: &str = "application/json";

/// Answers with one object.
pub(crate) fn object(call: &Call, code: StatusCode, stored: &Stored) -> Outcome<Response<Body>> {
    let kind = &*call.kind;
    let content = match call.form.view {
        View::Whole if call.form.is_ready_made() => {
            let mut out = Vec::with_capacity(stored.value.len() + 128);
            stored.write_alone(kind, &mut out);
            out.push(b'\n');
            (out, JSON)
        }
        View::Whole => content(call.form, &stored.object(kind)?)?,
        View::Metadata => content(call.form, &table::partial(call.form, stored.metadata()))?,
        View::Table(include) => {
            let metadata = json!({"resourceVersion": stored.revision.to_string()});
            content(
                call.form,
                &table::table(kind, std::iter::once(stored), (call.form, include), metadata, true)?,
            )?
        }
    };
    Ok(finish(call, code, content))
}

/// Answers with an object that is of no served kind (a review, a scale, a `Status`).
pub(crate) fn value(call: &Call, code: StatusCode, value: &Value) -> Outcome<Response<Body>> {
    if call.form.view != View::Whole {
        return Err(crate::status::not_acceptable());
    }
    Ok(finish(call, code, content(call.form, value)?))
}

/// Answers with a list.
pub(crate) fn listing(call: &Call, listing: Listing) -> Outcome<Response<Body>> {
    let kind = &*call.kind;
    if call.form.view == View::Whole && call.form.is_ready_made() {
        let body = match ListBody::new(kind, listing) {
            Ok(body) => Body::new(body),
            Err(listing) => Body::from(ready_made_list(kind, &listing)),
        };
        let mut response = plain(StatusCode::OK, JSON, body);
        call.put_warnings(&mut response);
        return Ok(response);
    }
    let listing = &listing;
    let content = match call.form.view {
        View::Whole => {
            let list: Value = serde_json::from_slice(&ready_made_list(kind, listing))
                .map_err(|error| internal(format!("a stored {} cannot be read: {error}", kind.kind)))?;
            content(call.form, &list)?
        }
        View::Metadata => {
            let items: Vec<Value> = listing
                .items
                .iter()
                .map(|item| table::partial(call.form, item.metadata()))
                .collect();
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": call.form.meta,
                "metadata": listing.metadata, "items": items});
            content(call.form, &list)?
        }
        View::Table(include) => {
            let metadata = listing.metadata.clone();
            content(
                call.form,
                &table::table(kind, listing.items.iter(), (call.form, include), metadata, true)?,
            )?
        }
    };
    Ok(finish(call, StatusCode::OK, content))
}

fn ready_made_list(kind: &Kind, listing: &Listing) -> Vec<u8> {
    let size: usize = listing.items.iter().map(|item| item.value.len() + 40).sum();
    let mut out = list_head(kind, &listing.metadata);
    out.reserve(size);
    for (index, item) in listing.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item.write_item(kind, &mut out);
    }
    out.extend_from_slice(LIST_END);
    out
}

fn content(form: Form, value: &Value) -> Outcome<Content> {
    match form.format {
        Format::Yaml => {
            let text = serde_saphyr::to_string(value);
            text.map(|text| (text.into_bytes(), "application/yaml"))
                .map_err(|error| internal(format!("the answer has no YAML form: {error}")))
        }
        // What has no such form is told in JSON, which every client reads.
        Format::Protobuf => Ok(protobuf::encode(value).map_or_else(
            || (format!("{value}\n").into_bytes(), JSON),
            |bytes| (bytes, protobuf::MEDIA_TYPE),
        )),
        Format::Json if form.pretty => Ok((format!("{value:#}\n").into_bytes(), JSON)),
        Format::Json => Ok((format!("{value}\n").into_bytes(), JSON)),
    }
}

fn finish(call: &Call, code: StatusCode, (body, content_type): Content) -> Response<Body> {
    let mut response = plain(code, content_type, body);
    call.put_warnings(&mut response);
    response
}

/// An answer of any type.
pub(crate) fn plain(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
