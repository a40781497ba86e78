//! Streams to pods and what is reached through this server: nothing is stored, but policies may say no.

use super::Operation;
use super::validating_admission_policy::validate_sent;
use crate::call::Call;
use crate::server::Server;
use crate::status::Outcome;
use serde_json::{Value, json};

/// Asks the policies whether the call may go through.
pub(crate) async fn connect(server: &Server, call: &Call) -> Outcome<()> {
    let options = options(call);
    validate_sent(server, &mut call.clone(), Operation::Connect, &options).await
}

/// The parameters of the call as the object that upstream makes of them.
fn options(call: &Call) -> Value {
    let kind = match (call.kind.kind, call.subresource.as_str()) {
        (_, "exec") => "PodExecOptions",
        (_, "attach") => "PodAttachOptions",
        (_, "portforward") => "PodPortForwardOptions",
        ("Service", _) => "ServiceProxyOptions",
        ("Node", _) => "NodeProxyOptions",
        _ => "PodProxyOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if call.query.flag(flag) == Some(true) {
            options[flag] = json!(true);
        }
    }
    for text in ["container", "path"] {
        if let Some(given) = call.query.get(text) {
            options[text] = json!(given);
        }
    }
    let commands: Vec<&str> = call.query.all("command").collect();
    if !commands.is_empty() {
        options["command"] = json!(commands);
    }
    let ports: Vec<i64> = call.query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = json!(ports);
    }
    options
}
