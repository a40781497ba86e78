//! Watches: the changes of a collection as a stream, after the objects that exist if the client wants them first.
//!
//! ```text
//!  initial objects ──▶ bookmark "initial-events-end" ──▶ changes, bookmarks ──▶ end: timeout, shutdown, error event
//! ```
//!
//! A watcher pulls its changes from the store, which keeps a bounded buffer for each: a slow one delays nobody, and one
//! that fell out of the history kept gets an error event with code 410 and lists anew.

use crate::call::Call;
use crate::list::wait_for;
use crate::names;
use crate::negotiate::{Form, Format, View};
use crate::options::ListOptions;
use crate::respond;
use crate::selection::Selection;
use crate::serve::Draining;
use crate::server::Server;
use crate::status::{Outcome, expired, not_acceptable, store_failed};
use crate::stored::Stored;
use crate::stream::{self, Happened};
use api::error::Status;
use api::kinds::KindRef;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use rand::Rng;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use store::{KeyValue, RangeRequest, Revision, WatchBatch};
use tokio::time::Instant;

/// How long a watch lasts at least when the client does not say; upstream's figure. It lasts up to twice as long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How long before its end a watch sends a last bookmark.
const LAST_BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How many bytes of initial events go into one frame.
const INITIAL_FRAME_BYTES: usize = 32 * 1024;

/// GET of a collection with `watch=true`.
pub(crate) async fn watch(server: &Arc<Server>, call: &Call, draining: Option<Draining>) -> Outcome<Response<Body>> {
    let options = ListOptions::of_watch(&call.kind, &call.query)?;
    if call.form.format == Format::Yaml {
        return Err(not_acceptable());
    }
    let watcher = match open(server, call, &options, draining).await {
        Ok(watcher) => watcher,
        // Clients expect this error as an event.
        Err(status) if status.code == 410 => {
            let line = stream::line(call.form, "ERROR", &status.to_value());
            return Ok(respond::plain(StatusCode::OK, stream::media_type(call.form), line));
        }
        Err(status) => return Err(status),
    };
    let frames = futures::stream::unfold(watcher, async |mut watcher| {
        let frame = watcher.next().await?;
        Some((Ok::<Bytes, Infallible>(frame), watcher))
    });
    Ok(respond::plain(
        StatusCode::OK,
        stream::media_type(call.form),
        Body::from_stream(frames),
    ))
}

async fn open(
    server: &Arc<Server>,
    call: &Call,
    options: &ListOptions,
    draining: Option<Draining>,
) -> Outcome<Watcher> {
    // Without a name the prefix is the collection's; with one it is the object's key (and those that start with it).
    let mut prefix = names::collection_prefix(&call.kind, &call.namespace);
    if call.kind.namespaced && call.namespace.is_empty() {
        if let Some(namespace) = options.selection.namespace() {
            prefix = names::collection_prefix(&call.kind, namespace);
        }
    } else if let Some(name) = options.selection.name() {
        prefix.push_str(name);
    }
    let current = server.store.revision().await.map_err(|error| store_failed(&error))?;
    let from = options.revision.unwrap_or(0);
    let (initial, after) = if options.initial_events {
        wait_for(server, from).await?;
        let end = store::prefix_end(&prefix);
        let request = RangeRequest {
            start: prefix.clone(),
            end,
            revision: None,
            limit: 0,
        };
        let response = server
            .store
            .range(request)
            .await
            .map_err(|error| store_failed(&error))?;
        (response.kvs, response.revision)
    } else {
        (Vec::new(), if from == 0 { current } else { from })
    };
    // The store cannot watch from a state that it has not reached; what comes until then is left out below.
    let reached = if options.initial_events {
        after
    } else {
        after.min(current)
    };
    let source = server.store.watch(&prefix, reached).await;
    let source = source.map_err(|error| match error {
        store::Error::Compacted { requested, oldest } => too_old(requested, oldest),
        error => store_failed(&error),
    })?;
    let now = Instant::now();
    let timeout = options
        .timeout
        .unwrap_or_else(|| DEFAULT_TIMEOUT.mul_f64(ambient::rng().random_range(1.0..2.0)));
    Ok(Watcher {
        server: server.clone(),
        kind: call.kind.clone(),
        form: call.form,
        selection: options.selection.clone(),
        prefix_is_key: options.selection.name().is_some(),
        initial: initial.into_iter(),
        initial_end: (options.initial_events && options.bookmarks).then_some(after),
        source,
        ready: VecDeque::new(),
        seen: after,
        columns_sent: false,
        ended: false,
        deadline: now + timeout,
        next_bookmark: options.bookmarks.then(|| now + server.config.bookmark_interval),
        draining,
    })
}

fn too_old(requested: Revision, oldest: Revision) -> Box<Status> {
    expired(format!("too old resource version: {requested} ({oldest})"))
}

/// One watch in progress.
struct Watcher {
    server: Arc<Server>,
    kind: KindRef,
    form: Form,
    selection: Selection,
    /// The prefix is the key of one object, so longer keys are other objects.
    prefix_is_key: bool,
    initial: std::vec::IntoIter<Arc<KeyValue>>,
    /// The revision of the bookmark that ends the initial objects, while it is still to be sent.
    initial_end: Option<Revision>,
    source: Box<dyn store::Watch>,
    ready: VecDeque<Bytes>,
    /// Everything up to this revision was sent or is ready.
    seen: Revision,
    columns_sent: bool,
    ended: bool,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    draining: Option<Draining>,
}

impl Watcher {
    /// The next bytes; `None` at the end. Events that are ready together leave together.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.initial_frame() {
                return Some(frame);
            }
            if let Some(revision) = self.initial_end.take() {
                return Some(stream::bookmark(&self.kind, self.form, revision, true));
            }
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            self.wait().await;
        }
    }

    fn initial_frame(&mut self) -> Option<Bytes> {
        let mut frame = BytesMut::new();
        while frame.len() < INITIAL_FRAME_BYTES {
            let Some(kv) = self.initial.next() else { break };
            if !self.concerns(&kv.key) {
                continue;
            }
            let stored = Stored::from(&kv);
            if !self.selection.is_everything() && !self.selection.selects(&stored) {
                continue;
            }
            match stream::encode(&self.kind, Happened::Added, &stored, self.form, !self.columns_sent) {
                Ok(bytes) => frame.extend_from_slice(&bytes),
                Err(status) => self.fail(&status),
            }
            self.columns_sent = true;
        }
        (!frame.is_empty()).then(|| frame.freeze())
    }

    /// A selector by name watches the keys that begin with it.
    fn concerns(&self, key: &str) -> bool {
        !self.prefix_is_key
            || self
                .selection
                .name()
                .is_none_or(|name| key.rsplit('/').next() == Some(name))
    }

    /// Waits for whatever comes first: a change, the time of a bookmark, or the end.
    async fn wait(&mut self) {
        let bookmark = self
            .next_bookmark
            .map(|at| at.min(self.deadline - LAST_BOOKMARK_BEFORE_END));
        let bookmark_due = async {
            match bookmark {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let drained = async {
            match &self.draining {
                Some(Draining(token)) => token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            batch = self.source.next() => match batch {
                Some(Ok(batch)) => self.take(&batch),
                Some(Err(store::Error::Compacted { requested, oldest })) => self.fail(&too_old(requested, oldest)),
                Some(Err(error)) => self.fail(&store_failed(&error)),
                None => self.ended = true,
            },
            () = bookmark_due => {
                self.ready.push_back(stream::bookmark(&self.kind, self.form, self.seen, false));
                let now = Instant::now();
                let last = now + LAST_BOOKMARK_BEFORE_END >= self.deadline;
                self.next_bookmark = (!last).then(|| now + self.server.config.bookmark_interval);
            }
            () = tokio::time::sleep_until(self.deadline) => self.ended = true,
            () = drained => self.ended = true,
        }
    }

    fn take(&mut self, batch: &WatchBatch) {
        for event in &batch.events {
            // A watch may be asked to start at a state that this server reaches only later.
            if event.revision() <= self.seen || !self.concerns(event.key()) {
                continue;
            }
            let change = self.server.encodings.of(&self.kind, event);
            let Some(happened) = change.seen_by(&self.selection) else {
                continue;
            };
            match change.encoded(happened, self.form, !self.columns_sent) {
                Ok(bytes) => self.ready.push_back(bytes),
                Err(status) => return self.fail(&status),
            }
            self.columns_sent |= matches!(self.form.view, View::Table(_));
        }
        self.seen = self.seen.max(batch.revision);
    }

    /// Ends the watch with an error event.
    fn fail(&mut self, status: &Status) {
        self.ready
            .push_back(stream::line(self.form, "ERROR", &status.to_value()));
        self.initial = Vec::new().into_iter();
        self.initial_end = None;
        self.ended = true;
        tracing::debug!(
            resource = self.kind.plural,
            code = status.code,
            "a watch ended: {}",
            status.message
        );
    }
}
