//! What a client is still sending when it has been answered: read to its end if that is near, so that the connection can
//! be used again; else the client is told that it cannot.
//!
//! Without this, HTTP/1.1 connections end after each refusal that did not have to read the body, and a client that has
//! put the connection back into its pool finds that out with its next request.

use axum::body::{Body, Bytes};
use http::{HeaderValue, Request, Response, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// More than this is not read for nothing; as Go's server, which upstream uses.
const REST_BYTES_MAX: u64 = 256 * 1024;
/// Nor is it waited for longer than this.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// A body that gives back what was not read of it.
struct Lent {
    inner: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

/// Where the rest of a body comes back.
pub(crate) struct Rest(Option<oneshot::Receiver<Incoming>>);

/// The request with a body whose rest comes back when nobody wants it any more.
pub(crate) fn lend(request: Request<Incoming>) -> (Request<Body>, Rest) {
    // HTTP/2 ends streams, not connections; who waits for leave to send sends nothing without it.
    let is_old = request.version() < Version::HTTP_2 && !request.headers().contains_key(header::EXPECT);
    if !is_old || request.body().is_end_stream() {
        return (request.map(Body::new), Rest(None));
    }
    let (back, rest) = oneshot::channel();
    let lent = |inner| Lent {
        inner: Some(inner),
        back: Some(back),
    };
    (request.map(|inner| Body::new(lent(inner))), Rest(Some(rest)))
}

impl Rest {
    /// Reads what is left; if that is too much, the response says that the connection ends with it.
    pub(crate) async fn finish(self, response: &mut Response<Body>) {
        // Nothing has come back while somebody reads on, such as a proxied server.
        let Some(mut rest) = self.0.and_then(|mut rest| rest.try_recv().ok()) else {
            return;
        };
        let is_long = rest.size_hint().lower() > REST_BYTES_MAX;
        let near_end = async {
            let mut left = REST_BYTES_MAX;
            while let Some(frame) = rest.frame().await {
                let length = frame.ok()?.data_ref().map_or(0, Bytes::len);
                left = left.checked_sub(u64::try_from(length).ok()?)?;
            }
            Some(())
        };
        let ended = !is_long && matches!(tokio::time::timeout(REST_TIMEOUT, near_end).await, Ok(Some(())));
        if !ended {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(inner).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let rest = self.inner.take().filter(|inner| !inner.is_end_stream());
        if let (Some(rest), Some(back)) = (rest, self.back.take()) {
            // Whoever answered is gone if the connection is; then there is nothing to save.
            drop(back.send(rest));
        }
    }
}
