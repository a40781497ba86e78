//! Lists: whole, in pages that all show one state, or at a state that the client names.

use crate::call::Call;
use crate::names;
use crate::options::{Freshness, ListOptions};
use crate::respond::{self, Listing};
use crate::server::Server;
use crate::status::{Outcome, bad_request, expired, future_revision, store_failed};
use crate::stored::Stored;
use api::continue_token::Place;
use axum::body::Body;
use http::Response;
use serde_json::json;
use std::time::Duration;
use store::{KeyValue, RangeRequest, Revision};

/// How long a list waits for a state that this server has not reached.
const FRESHNESS_WAIT: Duration = Duration::from_secs(3);

/// Keys read at once while a selector thins out a limited list.
const PAGE_KEYS_MIN: usize = 100;

/// GET of a collection.
pub(crate) async fn list(server: &Server, call: &Call) -> Outcome<Response<Body>> {
    let options = ListOptions::of_list(&call.kind, &call.query)?;
    let listing = read(server, call, &options).await?;
    respond::listing(call, listing)
}

/// What a list shows.
pub(crate) async fn read(server: &Server, call: &Call, options: &ListOptions) -> Outcome<Listing> {
    let prefix = names::collection_prefix(&call.kind, &call.namespace);
    let (start, revision) = match &options.continue_token {
        Some(token) => {
            let place = Place::decode(token).map_err(bad_request)?;
            (prefix.clone() + &place.start, place.revision)
        }
        None => (prefix.clone(), None),
    };
    if let Freshness::NotOlderThan(revision) = options.freshness {
        wait_for(server, revision).await?;
    }
    let revision = match options.freshness {
        Freshness::Exact(revision) => Some(revision),
        _ => revision,
    };
    // A selector by name reads one key.
    let only = options
        .selection
        .name()
        .filter(|_| !call.kind.namespaced || !call.namespace.is_empty());
    let (start, end) = match only {
        Some(name) => (prefix.clone() + name, None),
        None => (start, store::prefix_end(&prefix)),
    };
    let exact = matches!(options.freshness, Freshness::Exact(_));
    let mut cursor = Cursor {
        prefix: &prefix,
        start,
        end,
        revision,
        exact,
    };
    let page = cursor.page(server, options).await?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = page.next {
        metadata["continue"] = json!(
            Place {
                revision: Some(page.revision),
                start: next
            }
            .encode()
        );
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    Ok(Listing {
        items: page.items,
        metadata,
    })
}

/// Waits until the store has reached a revision that a client has seen.
pub(crate) async fn wait_for(server: &Server, revision: Revision) -> Outcome<()> {
    let current = server.store.revision().await.map_err(|error| store_failed(&error))?;
    if revision <= current {
        return Ok(());
    }
    let reached = async {
        let mut watch = server.store.watch("/registry/", current).await.ok()?;
        while let Some(Ok(batch)) = watch.next().await {
            if batch.revision >= revision {
                return Some(());
            }
        }
        None
    };
    let reached = tokio::time::timeout(FRESHNESS_WAIT, reached).await.ok().flatten();
    reached.ok_or_else(|| future_revision(revision, current))
}

struct Page {
    items: Vec<Stored>,
    revision: Revision,
    /// Where the next page starts, relative to the collection.
    next: Option<String>,
    /// How many objects come after this page; unknown when a selector hides some.
    remaining: Option<usize>,
}

/// A list in the making.
struct Cursor<'a> {
    prefix: &'a str,
    start: String,
    end: Option<String>,
    revision: Option<Revision>,
    exact: bool,
}

impl Cursor<'_> {
    async fn page(&mut self, server: &Server, options: &ListOptions) -> Outcome<Page> {
        let everything = options.selection.is_everything();
        let limit = options.limit;
        let mut items: Vec<Stored> = Vec::new();
        loop {
            // One key more than needed tells whether there is a next page.
            let wanted = if limit == 0 {
                0
            } else {
                (limit - items.len()).saturating_add(1)
            };
            let wanted = if everything || wanted == 0 {
                wanted
            } else {
                wanted.max(PAGE_KEYS_MIN)
            };
            let response = self.range(server, wanted).await?;
            let revision = response.revision;
            self.revision = Some(revision);
            let exhausted = response.kvs.len() >= response.count;
            let total = response.count;
            for (seen, kv) in response.kvs.iter().enumerate() {
                if limit > 0 && items.len() == limit {
                    let next = self.relative(kv);
                    let remaining = everything.then(|| total - seen);
                    return Ok(Page {
                        items,
                        revision,
                        next: Some(next),
                        remaining,
                    });
                }
                let stored = Stored::from(kv);
                if everything || options.selection.selects(&stored) {
                    items.push(stored);
                }
            }
            match response.kvs.last() {
                Some(last) if !exhausted => self.start = format!("{}\0", last.key),
                _ => {
                    return Ok(Page {
                        items,
                        revision,
                        next: None,
                        remaining: None,
                    });
                }
            }
        }
    }

    async fn range(&self, server: &Server, limit: usize) -> Outcome<store::RangeResponse> {
        let request = RangeRequest {
            start: self.start.clone(),
            end: self.end.clone(),
            revision: self.revision,
            limit,
        };
        server.store.range(request).await.map_err(|error| match error {
            store::Error::Compacted { .. } if !self.exact => self.expired_page(),
            error => store_failed(&error),
        })
    }

    fn relative(&self, kv: &KeyValue) -> String {
        kv.key.strip_prefix(self.prefix).unwrap_or(&kv.key).to_owned()
    }

    /// The state of the first page is forgotten; the client may go on with the latest state.
    fn expired_page(&self) -> Box<api::error::Status> {
        let start = self.start.strip_prefix(self.prefix).unwrap_or("").to_owned();
        let mut status = expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        );
        status.metadata = json!({"continue": Place { revision: None, start }.encode()});
        status
    }
}
