//! Lists as they are sent: the items are copied when the connection takes them, so that a long list begins to flow at once
//! and never lies in memory as a whole.

use crate::respond::Listing;
use crate::stored::{Stored, is_listed_as_stored};
use api::kinds::Kind;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// How much is copied at once: enough that few turns are needed, little enough to stay in the processor's caches.
const COPIED_BYTES: usize = 128 * 1024;

/// How much is handed to the connection at once: what fits into one record of TLS along with the head of the HTTP/2
/// frame that carries it. With more, each frame would need a second record for its last bytes.
const PART_BYTES: usize = 16 * 1024 - 9;

/// What stands behind the last item.
pub(crate) const LIST_END: &[u8] = b"]}\n";

/// What stands in front of the first item.
pub(crate) fn list_head(kind: &Kind, metadata: &Value) -> Vec<u8> {
    let (name, api_version) = (kind.kind, kind.api_version());
    format!(r#"{{"kind":"{name}List","apiVersion":"{api_version}","metadata":{metadata},"items":["#).into_bytes()
}

/// The body of a list whose items are sent as they are stored. Its length is known from the start.
#[derive(Debug)]
pub(crate) struct ListBody {
    /// What is copied and not sent yet.
    copied: Bytes,
    items: std::vec::IntoIter<Stored>,
    is_ended: bool,
    left: u64,
}

impl ListBody {
    /// The body; gives the list back if its items have to be changed to be sent.
    pub(crate) fn new(kind: &Kind, listing: Listing) -> Result<Self, Listing> {
        if !is_listed_as_stored(kind) {
            return Err(listing);
        }
        let lens = listing.items.iter().map(Stored::copied_len);
        let Some(items_len) = lens.sum::<Option<usize>>() else {
            return Err(listing);
        };
        let head = list_head(kind, &listing.metadata);
        let commas = listing.items.len().saturating_sub(1);
        let len = head.len() + items_len + commas + LIST_END.len();
        Ok(Self {
            copied: Bytes::from(head),
            items: listing.items.into_iter(),
            is_ended: false,
            left: len as u64,
        })
    }

    fn part(&mut self) -> Bytes {
        if self.copied.len() < PART_BYTES && !self.is_ended {
            self.copied = self.copy();
        }
        self.copied.split_to(self.copied.len().min(PART_BYTES))
    }

    /// What is left of what was copied, and more.
    fn copy(&mut self) -> Bytes {
        let mut copied = Vec::with_capacity(COPIED_BYTES + COPIED_BYTES / 4);
        copied.extend_from_slice(&self.copied);
        while copied.len() < COPIED_BYTES {
            let Some(item) = self.items.next() else {
                copied.extend_from_slice(LIST_END);
                self.is_ended = true;
                break;
            };
            item.copy_item(&mut copied);
            if self.items.len() > 0 {
                copied.push(b',');
            }
        }
        Bytes::from(copied)
    }
}

impl Body for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let part = self.part();
        self.left = self.left.saturating_sub(part.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::json;

    /// The number of items and the text of a list of objects that have so much data.
    async fn sent(sizes: &[usize]) -> (usize, Vec<u8>) {
        let kind = crate::admission::kind("", "configmaps");
        let items = sizes.iter().map(|size| Stored {
            value: Stored::encode(
                kind,
                &json!({"metadata": {"name": "a"}, "data": {"k": "v".repeat(*size)}}),
            ),
            revision: 7,
        });
        let listing = Listing {
            items: items.collect(),
            metadata: json!({"resourceVersion": "9"}),
        };
        let mut body = ListBody::new(kind, listing).expect("stored as they are served");
        let (announced, mut text, mut parts) = (body.left, Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            text.extend_from_slice(frame.unwrap().data_ref().unwrap());
            parts += 1;
        }
        assert_eq!(announced, text.len() as u64);
        (parts, text)
    }

    #[tokio::test]
    async fn a_list_is_sent_in_parts_and_is_as_long_as_announced() {
        for (sizes, parts_min) in [
            (&[][..], 1),
            (&[0], 1),
            (&[1, 2, 3], 1),
            (&[100_000; 5], 5),
            (&[30; 9000], 10),
        ] {
            let (parts, text) = sent(sizes).await;
            assert!(parts >= parts_min, "{parts}");
            let list: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(list["kind"], "ConfigMapList");
            assert_eq!(list["metadata"]["resourceVersion"], "9");
            let items = list["items"].as_array().unwrap();
            let found: Vec<usize> = items
                .iter()
                .map(|item| item["data"]["k"].as_str().unwrap().len())
                .collect();
            assert_eq!(found, sizes);
        }
    }
}
