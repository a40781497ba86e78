//! exec and attach: the session of the caller is joined with one that the runtime offers at a URL of its own.

use crate::log_reader::is_true;
use crate::run::Node;
use crate::runtime::timed;
use cri::v1::{AttachRequest, ExecRequest};
use remotecommand::{ClientSession, ConnectError, Endpoint, StreamOptions, Wire};
use std::time::Duration;

/// The runtime only makes up a URL here.
const URL_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A new command.
    Exec,
    /// The container's first process.
    Attach,
}

/// Reads which streams a request wants.
///
/// # Errors
/// None is wanted, or they do not go together.
pub(crate) fn streams(query: &[(String, String)]) -> Result<StreamOptions, String> {
    // Kubelets say input, output, error; the API says stdin, stdout, stderr.
    let wants = |names: [&str; 2]| query.iter().any(|(n, v)| names.contains(&n.as_str()) && is_true(v));
    let tty = wants(["tty", "tty"]);
    let options = StreamOptions {
        stdin: wants(["input", "stdin"]),
        stdout: wants(["output", "stdout"]),
        // With a terminal there is no separate error stream.
        stderr: wants(["error", "stderr"]) && !tty,
        tty,
    };
    if !options.stdin && !options.stdout && !options.stderr {
        return Err("you must specify at least 1 of stdin, stdout, stderr".into());
    }
    Ok(options)
}

/// Opens the runtime's side of a session.
///
/// # Errors
/// For people, with the HTTP status to answer with.
pub(crate) async fn open(
    node: &Node,
    kind: Kind,
    container_id: &str,
    query: &[(String, String)],
    streams: StreamOptions,
) -> Result<ClientSession, (u16, String)> {
    let url = url(node, kind, container_id, query, streams).await?;
    let url = url
        .parse()
        .map_err(|e| (500, format!("the runtime gave no URL: {e}")))?;
    let endpoint = Endpoint {
        url,
        tls: None,
        headers: http::HeaderMap::new(),
        wire: Wire::Spdy,
    };
    remotecommand::connect(&endpoint, streams)
        .await
        .map_err(|error| match error {
            ConnectError::Refused { status, body, .. } => {
                (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
            }
            error => (500, chain(&error)),
        })
}

/// The URL at which the runtime offers the session.
async fn url(
    node: &Node,
    kind: Kind,
    container_id: &str,
    query: &[(String, String)],
    streams: StreamOptions,
) -> Result<String, (u16, String)> {
    let failed = |status: tonic::Status| (500, crate::images::message(&status));
    let mut runtime = node.runtime.containers.clone();
    let container_id = container_id.to_owned();
    let StreamOptions {
        stdin,
        stdout,
        stderr,
        tty,
    } = streams;
    match kind {
        Kind::Exec => {
            let cmd: Vec<String> = query
                .iter()
                .filter(|(n, _)| n == "command")
                .map(|(_, v)| v.clone())
                .collect();
            if cmd.is_empty() {
                return Err((400, "you must specify a command".into()));
            }
            let request = ExecRequest {
                container_id,
                cmd,
                tty,
                stdin,
                stdout,
                stderr,
            };
            Ok(runtime
                .exec(timed(request, URL_TIMEOUT))
                .await
                .map_err(failed)?
                .into_inner()
                .url)
        }
        Kind::Attach => {
            let request = AttachRequest {
                container_id,
                stdin,
                tty,
                stdout,
                stderr,
            };
            Ok(runtime
                .attach(timed(request, URL_TIMEOUT))
                .await
                .map_err(failed)?
                .into_inner()
                .url)
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
