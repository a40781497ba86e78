//! Watch events as bytes: each change is looked at once and encoded once, however many watch it.

use crate::negotiate::{Form, Format, View};
use crate::selection::Selection;
use crate::status::Outcome;
use crate::stored::Stored;
use crate::table;
use api::kinds::{Kind, KindRef};
use api::protobuf;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock};
use store::{Event, Revision};

/// How many bytes of objects are remembered as changes, parsed and encoded. Watchers of one kind are seldom further
/// apart, and what is remembered takes several times as much memory.
const REMEMBERED_BYTES_MAX: usize = 256 * 1024;

/// What happened to an object, as one watcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Added,
    Modified,
    Deleted,
}

impl Happened {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change of one object, with what watchers need of it, made when the first of them asks.
#[derive(Debug)]
pub(crate) struct Change {
    kind: KindRef,
    event: Arc<Event>,
    current: OnceLock<Value>,
    previous: OnceLock<Value>,
    /// By what happened.
    json: [OnceLock<Bytes>; 3],
    protobuf: [OnceLock<Bytes>; 3],
}

impl Change {
    fn new(kind: KindRef, event: Arc<Event>) -> Self {
        Self {
            kind,
            event,
            current: OnceLock::new(),
            previous: OnceLock::new(),
            json: Default::default(),
            protobuf: Default::default(),
        }
    }

    fn revision(&self) -> Revision {
        self.event.revision()
    }

    /// How large the objects are that the change is about.
    fn bytes(&self) -> usize {
        let values = [self.now(), self.before()].into_iter().flatten();
        values.map(|stored| stored.value.len()).sum::<usize>() + size_of::<Self>()
    }

    /// What the change means to somebody who sees only selected objects.
    pub(crate) fn seen_by(&self, selection: &Selection) -> Option<Happened> {
        let everything = selection.is_everything();
        let is = self
            .now()
            .is_some_and(|now| everything || selection.selects_object(self.parsed(&self.current, &now)));
        let was = self
            .before()
            .is_some_and(|old| everything || selection.selects_object(self.parsed(&self.previous, &old)));
        match (was, is) {
            (false, true) => Some(Happened::Added),
            (true, true) => Some(Happened::Modified),
            (true, false) => Some(Happened::Deleted),
            (false, false) => None,
        }
    }

    fn parsed<'a>(&self, place: &'a OnceLock<Value>, stored: &Stored) -> &'a Value {
        place.get_or_init(|| stored.object(&self.kind).unwrap_or_default())
    }

    fn now(&self) -> Option<Stored> {
        match &*self.event {
            Event::Put { kv, .. } => Some(Stored::from(kv)),
            Event::Delete { .. } => None,
        }
    }

    fn before(&self) -> Option<Stored> {
        let previous = match &*self.event {
            Event::Put { previous, .. } => previous.as_ref(),
            Event::Delete { previous, .. } => Some(previous),
        };
        previous.map(Stored::from)
    }

    /// The object that the event carries: the new state, or the last one with the revision of its end.
    fn shown(&self, happened: Happened) -> Option<Stored> {
        match happened {
            Happened::Added | Happened::Modified => self.now(),
            Happened::Deleted => self.before().map(|old| Stored {
                revision: self.revision(),
                ..old
            }),
        }
    }

    /// The event on the wire.
    pub(crate) fn encoded(&self, happened: Happened, form: Form, first: bool) -> Outcome<Bytes> {
        let places = match form.format {
            Format::Protobuf => &self.protobuf,
            Format::Json | Format::Yaml => &self.json,
        };
        let place = &places[happened as usize];
        let Some(stored) = self.shown(happened) else {
            return Ok(Bytes::new());
        };
        if form.view != View::Whole {
            return encode(&self.kind, happened, &stored, form, first);
        }
        if let Some(made) = place.get() {
            return Ok(made.clone());
        }
        let made = encode(&self.kind, happened, &stored, form, first)?;
        Ok(place.get_or_init(|| made).clone())
    }
}

/// The event of an object on the wire, in the form the watcher asked for. Tables name their columns in the first only.
pub(crate) fn encode(kind: &Kind, happened: Happened, stored: &Stored, form: Form, first: bool) -> Outcome<Bytes> {
    let object = match form.view {
        View::Whole if form.format == Format::Protobuf => stored.object(kind)?,
        View::Whole => return Ok(spliced(happened, stored, |out| stored.write_alone(kind, out))),
        View::Metadata if form.format != Format::Protobuf => {
            return Ok(spliced(happened, stored, |out| stored.write_partial(form.meta, out)));
        }
        View::Metadata => table::partial(form, stored.metadata()),
        View::Table(include) => {
            let metadata = json!({"resourceVersion": stored.revision.to_string()});
            table::table(kind, std::iter::once(stored), (form, include), metadata, first)?
        }
    };
    Ok(line(form, happened.name(), &object))
}

/// An event whose object is copied from what is stored.
fn spliced(happened: Happened, stored: &Stored, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(stored.value.len() + 160);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(happened.name().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    write(&mut out);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// The media type of a watch.
pub(crate) fn media_type(form: Form) -> &'static str {
    match form.format {
        Format::Protobuf => protobuf::WATCH_MEDIA_TYPE,
        Format::Json | Format::Yaml => "application/json",
    }
}

/// An event of any object.
pub(crate) fn line(form: Form, event_type: &str, object: &Value) -> Bytes {
    if form.format == Format::Protobuf
        && let Some(frame) = protobuf::frame(event_type, object)
    {
        return Bytes::from(frame);
    }
    Bytes::from(format!("{{\"type\":\"{event_type}\",\"object\":{object}}}\n"))
}

/// A bookmark at a revision.
pub(crate) fn bookmark(kind: &Kind, form: Form, revision: Revision, initial_events_end: bool) -> Bytes {
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if initial_events_end {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = match form.view {
        View::Whole => json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata}),
        View::Metadata => table::partial(form, metadata),
        View::Table(_) => json!({"kind": "Table", "apiVersion": form.meta, "columnDefinitions": null,
            "metadata": {"resourceVersion": revision.to_string()},
            "rows": [{"cells": null, "object": table::partial(form, metadata)}]}),
    };
    line(form, "BOOKMARK", &object)
}

/// The latest changes with their encodings, found again by the identity of the store's event.
#[derive(Debug, Default)]
pub(crate) struct Encodings {
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    by_event: HashMap<(usize, usize), Arc<Change>>,
    order: VecDeque<((usize, usize), usize)>,
    bytes: usize,
}

impl Encodings {
    /// The change that an event of the store makes to a kind.
    pub(crate) fn of(&self, kind: &KindRef, event: &Arc<Event>) -> Arc<Change> {
        // A remembered change holds the event, so the address of the event cannot come to mean another one meanwhile.
        let id = (std::ptr::from_ref::<Kind>(kind).addr(), Arc::as_ptr(event).addr());
        let mut remembered = self
            .remembered
            .lock()
            .expect("nothing panics while it holds the encodings");
        if let Some(change) = remembered.by_event.get(&id) {
            return change.clone();
        }
        let change = Arc::new(Change::new(kind.clone(), event.clone()));
        let bytes = change.bytes();
        remembered.by_event.insert(id, change.clone());
        remembered.order.push_back((id, bytes));
        remembered.bytes += bytes;
        while remembered.bytes > REMEMBERED_BYTES_MAX
            && let Some((oldest, bytes)) = remembered.order.pop_front()
        {
            remembered.by_event.remove(&oldest);
            remembered.bytes -= bytes;
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::KeyValue;

    fn event(size: usize) -> Arc<Event> {
        let value = Stored::encode(
            crate::admission::kind("", "configmaps"),
            &json!({"data": {"k": "v".repeat(size)}}),
        );
        let kv = Arc::new(KeyValue {
            key: "k".into(),
            value,
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: None,
        });
        Arc::new(Event::Put { kv, previous: None })
    }

    #[test]
    fn a_change_is_encoded_once() {
        let (encodings, kind) = (
            Encodings::default(),
            KindRef::from(crate::admission::kind("", "configmaps")),
        );
        let event = event(10);
        let encode = || {
            encodings
                .of(&kind, &event)
                .encoded(Happened::Added, Form::JSON, true)
                .unwrap()
        };
        assert_eq!(encode().as_ptr(), encode().as_ptr());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (encodings, kind) = (
            Encodings::default(),
            KindRef::from(crate::admission::kind("", "configmaps")),
        );
        for _ in 0..100 {
            encodings.of(&kind, &event(10_000));
        }
        let remembered = encodings.remembered.lock().unwrap();
        assert!(remembered.bytes <= REMEMBERED_BYTES_MAX);
        assert_eq!(remembered.by_event.len(), remembered.order.len());
        assert!(remembered.order.len() > 20);
    }
}
