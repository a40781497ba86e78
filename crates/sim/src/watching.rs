//! What a component sees of a watch: late, twice, or not at all, but never untrue and never out of order.
//!
//! Events of one watch keep their order, as Kubernetes promises. Lost ones are followed by an error that makes the
//! client list anew, for there is no other way in which they get lost. What overtakes what is between watches.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tokio::time::Instant;

use crate::link::{Answer, BoxError};
use crate::world::{Who, World};

/// No stall is longer than this, and none follows another before as much time has passed.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(6);

const EXPIRED: &str = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\
    \"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n";

struct Watching {
    world: World,
    who: Who,
    kind: String,
    is_seen: bool,
    body: Answer,
    partial: BytesMut,
    lines: VecDeque<Bytes>,
    stalled_until: Instant,
    ended: bool,
}

/// The body of a watch as the component gets it.
pub(crate) fn faulty(world: World, who: Who, kind: String, is_seen: bool, body: Answer) -> Answer {
    let watching = Watching {
        world,
        who,
        kind,
        is_seen,
        body,
        partial: BytesMut::new(),
        lines: VecDeque::new(),
        stalled_until: Instant::now(),
        ended: false,
    };
    let lines = stream::unfold(watching, |mut watching| async move {
        let line = watching.next().await?;
        Some((line.map(Frame::data), watching))
    });
    StreamBody::new(lines).boxed_unsync()
}

impl Watching {
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.ended {
            return None;
        }
        while self.lines.is_empty() {
            match self.body.frame().await {
                Some(Ok(frame)) => self.take(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Some(Err(error)),
                None => return None,
            }
        }
        tokio::time::sleep_until(self.stall()).await;
        if self.is_cut() {
            self.ended = true;
            return self.cut();
        }
        let line = self.lines.pop_front()?;
        self.deliver(&line);
        Some(Ok(line))
    }

    fn take(&mut self, data: &[u8]) {
        self.partial.extend_from_slice(data);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            self.lines.push_back(self.partial.split_to(end + 1).freeze());
        }
    }

    /// Until when nothing is heard.
    fn stall(&mut self) -> Instant {
        let mut state = self.world.lock();
        let (faults, now) = (state.faults, Instant::now());
        if faults == crate::world::Faults::NONE {
            return now;
        }
        if self.stalled_until + STALL_MAX < now && state.chance.happens(faults.stall) {
            self.stalled_until = now + state.chance.up_to(STALL_MAX);
        }
        if state.chance.happens(faults.twice)
            && let Some(line) = self.lines.front().cloned()
        {
            self.lines.push_front(line);
        }
        self.stalled_until
    }

    fn is_cut(&self) -> bool {
        let mut state = self.world.lock();
        let cut = state.faults.cut;
        state.cut_off.contains(&self.who) || state.chance.happens(cut)
    }

    /// The watch ends here: with what was under way lost and said to be, or with nothing lost.
    fn cut(&mut self) -> Option<Result<Bytes, BoxError>> {
        let (who, kind) = (self.who, &self.kind);
        let is_lost = self.world.lock().chance.happens(0.5);
        self.world.tell(|| {
            format!(
                "{who:?}'s watch of {kind} is cut{}",
                if is_lost { ", events are lost" } else { "" }
            )
        });
        is_lost.then(|| Ok(Bytes::from_static(EXPIRED.as_bytes())))
    }

    fn deliver(&self, line: &[u8]) {
        if !self.is_seen || !matches!(self.kind.as_str(), "pods" | "statefulsets") {
            return;
        }
        if let Ok(event) = serde_json::from_slice::<Value>(line) {
            let at = self.world.elapsed();
            self.world.lock().checkers.delivered(at, &event);
        }
    }
}
