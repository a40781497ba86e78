//! The API without a socket, for clients in the same process.

use crate::user::User;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use std::convert::Infallible;
use std::task::{Context, Poll};
use tower::Service;

/// In the extensions of a request that comes from a part of this process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

/// A service that sends requests to a router as a given user; `kube::Client::new` takes it.
///
/// Identity travels as it does over TLS, so the same rights are checked. Upgrades (exec, attach) need a connection and
/// are not possible here.
#[derive(Clone, Debug)]
pub struct InProcess {
    router: Router,
    user: User,
}

/// Makes the service for a client in the same process.
pub fn in_process(router: Router, user: User) -> InProcess {
    InProcess { router, user }
}

impl<B> Service<Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = <Router as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        <Router as Service<Request<Body>>>::poll_ready(&mut self.router, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.user.clone());
        request.extensions_mut().insert(Local);
        self.router.call(request)
    }
}
