//! The way from a component to the API server, on which everything goes wrong that the seed says.

use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::InProcess;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use crate::empty;
use crate::watching;
use crate::world::{Who, World};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// No request or answer is later than this.
pub(crate) const LATENESS_MAX: Duration = Duration::from_secs(2);

/// No write takes effect longer than this after its sender has given it up: time enough for a deleted pod's successor.
const BELATED_MAX: Duration = Duration::from_secs(15);

/// A deletion is belated so many times as often as another write: what it must not hit is rarely there in time.
const BELATED_DELETIONS: f64 = 4.0;

/// A client of one component goes through this.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) who: Who,
    pub(crate) server: InProcess,
    pub(crate) world: World,
}

/// What befalls one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Fine,
    Refused,
    Unwell(StatusCode),
    Conflict,
    Unanswered,
    Belated,
    CrashBefore,
    CrashAfter,
}

/// What a request is about, as far as fate and checkers care.
#[derive(Clone, Debug)]
struct About {
    method: Method,
    path: String,
    is_watch: bool,
    /// It asks for whole objects, not for metadata only.
    is_whole: bool,
}

impl About {
    fn of(request: &Request<Body>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let accept = request.headers().get("accept").and_then(|accept| accept.to_str().ok());
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            is_watch: query.split('&').any(|part| part == "watch=true" || part == "watch=1"),
            is_whole: !accept.unwrap_or_default().contains("PartialObjectMetadata"),
        }
    }

    fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

impl Service<Request<Body>> for Link {
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Answer>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}

impl Link {
    async fn carry(self, request: Request<Body>) -> Result<Response<Answer>, BoxError> {
        let about = About::of(&request);
        if self.is_of_nothing(&about) {
            return Ok(empty::answer(about.is_watch));
        }
        self.late().await;
        let fate = self.fate(&about);
        match fate {
            Fate::Refused => return Err(self.fail(&about, "the connection is refused")),
            Fate::CrashBefore => return self.die(&about, "before").await,
            Fate::Unwell(code) => return Ok(self.refuse(&about, code, "InternalError")),
            Fate::Conflict => return Ok(self.refuse(&about, StatusCode::CONFLICT, "Conflict")),
            Fate::Belated => {
                let given_up = self.fail(&about, "it is given up, and takes effect later");
                self.arrive_later(about, request);
                return Err(given_up);
            }
            Fate::Fine | Fate::Unanswered | Fate::CrashAfter => {}
        }
        let response = self.arrive(&about, request).await;
        match fate {
            Fate::Unanswered => return Err(self.fail(&about, "the answer is lost")),
            Fate::CrashAfter => return self.die(&about, "after").await,
            _ => {}
        }
        self.late().await;
        self.hand_over(&about, response).await
    }

    /// Whether it asks for objects of a kind of which there are none.
    fn is_of_nothing(&self, about: &About) -> bool {
        let state = self.world.lock();
        about.method == Method::GET
            && !state.cut_off.contains(&self.who)
            && empty::collection(&about.path).is_some_and(|kind| !state.checkers.inhabited.contains(kind))
    }

    /// The server gets the request, and the checkers see what it does.
    async fn arrive(&self, about: &About, request: Request<Body>) -> Response<axum::body::Body> {
        let who = self.who;
        self.world.look();
        let judged = if who == Who::Controllers && about.is_write() {
            let at = self.world.elapsed();
            self.world.lock().checkers.before_write(at, &about.method, &about.path)
        } else {
            None
        };
        let Ok(response) = self.server.clone().oneshot(request).await;
        let status = response.status();
        self.world.look();
        if about.is_write() {
            self.world
                .tell(|| format!("{who:?} {} {} {}", about.method, about.path, status.as_u16()));
            let at = self.world.elapsed();
            let mut state = self.world.lock();
            state
                .checkers
                .after_write(at, who, &about.method, &about.path, status.is_success(), judged);
        }
        response
    }

    /// The server gets the request when its sender has long forgotten it, or is dead.
    fn arrive_later(self, about: About, request: Request<Body>) {
        let mut state = self.world.lock();
        let pause = state.chance.up_to(BELATED_MAX);
        let link = self.clone();
        state.belated.spawn(async move {
            tokio::time::sleep(pause).await;
            link.arrive(&about, request).await;
        });
    }

    async fn hand_over(
        &self,
        about: &About,
        response: Response<axum::body::Body>,
    ) -> Result<Response<Answer>, BoxError> {
        let (head, body) = response.into_parts();
        let body = body.map_err(Into::into).boxed_unsync();
        let is_seen = self.who == Who::Controllers && about.is_whole && about.method == Method::GET;
        if about.is_watch && head.status.is_success() {
            let kind = about.path.rsplit('/').next().unwrap_or_default().to_owned();
            let body = watching::faulty(self.world.clone(), self.who, kind, is_seen, body);
            return Ok(Response::from_parts(head, body));
        }
        if is_seen && head.status.is_success() && is_collection_of_interest(&about.path) {
            let bytes = body.collect().await?.to_bytes();
            if let Ok(list) = serde_json::from_slice::<Value>(&bytes) {
                let at = self.world.elapsed();
                self.world.lock().checkers.listed(at, &list);
            }
            return Ok(Response::from_parts(head, whole(bytes)));
        }
        Ok(Response::from_parts(head, body))
    }

    fn fate(&self, about: &About) -> Fate {
        let mut state = self.world.lock();
        if state.cut_off.contains(&self.who) {
            return Fate::Refused;
        }
        if self.who == Who::User {
            return Fate::Fine;
        }
        let (faults, chance) = (state.faults, &mut state.chance);
        let times = if about.method == Method::DELETE {
            BELATED_DELETIONS
        } else {
            1.0
        };
        let is_change = matches!(about.method, Method::PATCH | Method::PUT | Method::DELETE);
        if chance.happens(faults.refused) {
            Fate::Refused
        } else if chance.happens(faults.unwell) {
            Fate::Unwell(chance.one_of(&[StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR]))
        } else if is_change && chance.happens(faults.conflict) {
            Fate::Conflict
        } else if about.is_write() && chance.happens(faults.unanswered) {
            Fate::Unanswered
        } else if about.is_write() && chance.happens(faults.belated * times) {
            Fate::Belated
        } else if chance.happens(faults.crash) {
            chance.one_of(&[Fate::CrashBefore, Fate::CrashAfter])
        } else {
            Fate::Fine
        }
    }

    async fn late(&self) {
        let pause = {
            let mut state = self.world.lock();
            let late = state.faults.late;
            (self.who != Who::User && state.chance.happens(late)).then(|| state.chance.up_to(LATENESS_MAX))
        };
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }

    fn fail(&self, about: &About, how: &'static str) -> BoxError {
        self.world
            .tell(|| format!("{:?} {} {}: {how}", self.who, about.method, about.path));
        how.into()
    }

    fn refuse(&self, about: &About, code: StatusCode, reason: &str) -> Response<Answer> {
        self.world.tell(|| {
            format!(
                "{:?} {} {}: answered {code} instead",
                self.who, about.method, about.path
            )
        });
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
            "message": "simulated", "code": code.as_u16(),
        });
        let mut response = Response::new(whole(Bytes::from(status.to_string())));
        *response.status_mut() = code;
        response
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }

    async fn die(&self, about: &About, when: &str) -> Result<Response<Answer>, BoxError> {
        self.world
            .tell(|| format!("{:?} dies {when} {} {}", self.who, about.method, about.path));
        self.world.crash(self.who);
        std::future::pending().await
    }
}

fn is_collection_of_interest(path: &str) -> bool {
    path.ends_with("/pods") || path.ends_with("/statefulsets")
}

/// A body of one piece.
pub(crate) fn whole(bytes: Bytes) -> Answer {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}
