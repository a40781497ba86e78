//! The audit log: one JSON line for each request, of the type `audit.k8s.io/v1` Event.
//!
//! A request is answered when its event is on its way to the file: when the disk cannot follow, the server waits rather
//! than leave gaps. Secrets, config maps and tokens are never logged with their contents.

use crate::authz::Decision;
use crate::clock;
use crate::path::ResourcePath;
use crate::user::User;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// How many events may be on their way to the file.
const QUEUE: usize = 1024;

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLog {
    /// The file; lines are appended.
    pub path: PathBuf,
    /// How much of each request.
    pub level: AuditLevel,
}

/// How much of a request is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditLevel {
    /// Who did what, when, and how it was answered.
    Metadata,
    /// The objects sent, too.
    Request,
}

/// The open log.
#[derive(Debug)]
pub(crate) struct Audit {
    pub(crate) level: AuditLevel,
    lines: mpsc::Sender<Vec<u8>>,
}

/// What else the log tells of a request; shared by those who work on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations(Arc<Mutex<BTreeMap<String, String>>>);

impl Annotations {
    /// Adds one, or replaces the one of that key.
    pub(crate) fn add(&self, key: String, value: String) {
        self.all().insert(key, value);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().expect("nothing panics while it holds the annotations")
    }
}

/// What is known of a request by the time that it is answered.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) user: Option<User>,
    /// The user that it was done as, if not the same.
    pub(crate) acting: Option<User>,
    pub(crate) decision: Option<Decision>,
    /// The object sent, if that is logged.
    pub(crate) body: Option<Bytes>,
    pub(crate) annotations: Annotations,
}

/// A request as the log tells it, but for its end.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) uri: String,
    pub(crate) verb: String,
    pub(crate) peer: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) resource: Option<ResourcePath>,
    pub(crate) received: String,
}

impl Audit {
    /// Opens the file and starts to write.
    pub(crate) fn open(log: &AuditLog) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log.path)?;
        let (lines, queue) = mpsc::channel(QUEUE);
        let audit = Self {
            level: log.level,
            lines,
        };
        Ok((audit, write(tokio::fs::File::from_std(file), queue)))
    }

    /// Logs an event; waits while too many are on their way.
    pub(crate) async fn log(&self, event: &Value) {
        // Only a server that ends has nobody who writes.
        if self.lines.send(line(event)).await.is_err() {
            tracing::warn!("an audit event was not written: the log is closed");
        }
    }

    /// Logs an event from where nobody can wait.
    pub(crate) fn log_now(&self, event: &Value) {
        if self.lines.try_send(line(event)).is_err() {
            tracing::warn!("an audit event was not written: too many are on their way");
        }
    }

    /// Whether the body of a request is logged.
    pub(crate) fn wants_body(&self, resource: Option<&ResourcePath>) -> bool {
        self.level == AuditLevel::Request && resource.is_some_and(|resource| !is_confidential(resource))
    }
}

/// Whether objects of a resource hold what must not be told.
fn is_confidential(resource: &ResourcePath) -> bool {
    let of_core = matches!(resource.resource.as_str(), "secrets" | "configmaps") || resource.subresource == "token";
    (resource.group.is_empty() && of_core) || resource.resource == "tokenreviews"
}

fn line(event: &Value) -> Vec<u8> {
    let mut line = event.to_string().into_bytes();
    line.push(b'\n');
    line
}

async fn write(mut file: tokio::fs::File, mut queue: mpsc::Receiver<Vec<u8>>) {
    let mut lines = Vec::new();
    while queue.recv_many(&mut lines, QUEUE).await > 0 {
        let text = lines.concat();
        lines.clear();
        let written = match file.write_all(&text).await {
            Ok(()) => file.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::error!(%error, "the audit log cannot be written");
        }
    }
}

/// The event of a request at a stage.
pub(crate) fn event(request: &Request, trace: &Trace, stage: &str, code: u16) -> Value {
    let level = if trace.body.is_some() { "Request" } else { "Metadata" };
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": level, "auditID": request.id, "stage": stage,
        "requestURI": request.uri, "verb": request.verb, "responseStatus": {"metadata": {}, "code": code},
        "requestReceivedTimestamp": request.received, "stageTimestamp": clock::micro_text(),
    });
    let user = trace.user.clone().unwrap_or_else(User::anonymous);
    event["user"] = user.info();
    if let Some(acting) = &trace.acting {
        event["impersonatedUser"] = acting.info();
    }
    event["sourceIPs"] = json!([request.peer.as_deref().unwrap_or("127.0.0.1")]);
    if let Some(agent) = &request.agent {
        event["userAgent"] = json!(agent);
    }
    if let Some(resource) = &request.resource {
        event["objectRef"] = reference(resource);
    }
    if let Some(decision) = &trace.decision {
        let verdict = if decision.allowed { "allow" } else { "forbid" };
        event["annotations"] = json!({"authorization.k8s.io/decision": verdict,
            "authorization.k8s.io/reason": decision.reason});
    }
    for (key, value) in trace.annotations.all().iter() {
        event["annotations"][key] = json!(value);
    }
    if let Some(body) = trace.body.as_ref().filter(|body| !body.is_empty()) {
        // What cannot be read as JSON was sent in another form; its length tells at least that there was something.
        event["requestObject"] = serde_json::from_slice(body).unwrap_or_else(|_| json!({"bytes": body.len()}));
    }
    event
}

fn reference(path: &ResourcePath) -> Value {
    let mut reference = json!({"resource": path.resource, "apiVersion": path.version});
    for (key, value) in [
        ("namespace", &path.namespace),
        ("name", &path.name),
        ("apiGroup", &path.group),
        ("subresource", &path.subresource),
    ] {
        if !value.is_empty() {
            reference[key] = json!(value);
        }
    }
    reference
}

/// A header as text.
pub(crate) fn header_text(headers: &HeaderMap, name: &http::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
