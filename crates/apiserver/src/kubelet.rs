//! Calling the node agent that runs a pod: for logs, for commands, for attaching to containers.

pub(crate) mod log;
pub(crate) mod port_forward;
pub(crate) mod terminal;

use crate::backend::{self, Backend};
use crate::call::Call;
use crate::create::text;
use crate::server::Server;
use crate::status::{Outcome, bad_request, internal, status};
use crate::stored::Stored;
use api::error::Status;
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use std::fmt::Write;

/// Where kubelets listen if their node does not say.
const KUBELET_PORT: u16 = 10250;

/// The most of a kubelet's refusal that is shown.
const REFUSAL_BYTES_MAX: usize = 4096;

/// A container and the kubelet that runs it.
#[derive(Clone, Debug)]
struct Place {
    kubelet: Backend,
    container: String,
}

impl Place {
    /// The URL of a kubelet endpoint for this container.
    fn url(&self, call: &Call, endpoint: &str, parameters: &[(&str, &str)]) -> Outcome<Uri> {
        let (namespace, pod, container) = (&call.namespace, &call.name, &self.container);
        let mut url = format!(
            "https://{}/{endpoint}/{namespace}/{pod}/{container}",
            self.kubelet.authority()
        );
        for (index, (key, value)) in parameters.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(key);
            url.push('=');
            encode(value, &mut url);
        }
        url.parse()
            .map_err(|error| internal(format!("the kubelet's URL {url} is not valid: {error}")))
    }
}

/// Percent-encodes the value of a query parameter.
fn encode(value: &str, out: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes all that is written to it");
        }
    }
}

/// Finds the container that a call is about; `None` if its pod has no node yet.
async fn place(server: &Server, call: &Call) -> Outcome<Option<Place>> {
    let kv = server.existing(&call.kind, &call.namespace, &call.name).await?;
    let pod = Stored::from(&kv).object(&call.kind)?;
    let container = container(call, &pod)?;
    let Some(node) = text(&pod["spec"]["nodeName"]) else {
        return Ok(None);
    };
    let kubelet = of_node(server, node).await?;
    Ok(Some(Place { kubelet, container }))
}

/// The kubelet of a node.
pub(crate) async fn of_node(server: &Server, node: &str) -> Outcome<Backend> {
    let nodes = crate::admission::kind("", "nodes");
    let kv = server.existing(nodes, "", node).await?;
    let object = Stored::from(&kv).object(nodes)?;
    let Some(tls) = server.config.kubelet_client.clone() else {
        let message = "this server was started without the means to call kubelets";
        return Err(status(503, "ServiceUnavailable", message, Value::Null));
    };
    let address = backend::address_of(&object).ok_or_else(|| {
        internal(format!(
            "no preferred addresses found; known addresses of node {node}: none"
        ))
    })?;
    let port = object["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    Ok(Backend {
        host: address.to_owned(),
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(KUBELET_PORT),
        tls: Some(tls),
        server_name: None,
    })
}

/// The container named, or the only one there is.
fn container(call: &Call, pod: &Value) -> Outcome<String> {
    let names = |field: &str| -> Vec<&str> {
        let containers = pod["spec"][field].as_array().into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str()).collect()
    };
    let (main, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    let pod_name = &call.name;
    match call.query.get("container") {
        Some(wanted) if main.iter().chain(&init).chain(&ephemeral).any(|name| *name == wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(bad_request(format!(
            "container {wanted} is not valid for pod {pod_name}"
        ))),
        None if main.len() == 1 => Ok(main[0].to_owned()),
        None => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                main.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            if !ephemeral.is_empty() {
                message.push_str(&format!(
                    " or one of the ephemeral containers: [{}]",
                    ephemeral.join(" ")
                ));
            }
            Err(bad_request(message))
        }
    }
}

/// What a kubelet's refusal is to the client: its own words, with its code.
pub(crate) fn refused(code: StatusCode, body: &[u8]) -> Box<Status> {
    let text = String::from_utf8_lossy(&body[..body.len().min(REFUSAL_BYTES_MAX)]);
    let text = match serde_json::from_str::<Value>(&text) {
        Ok(object) if object["kind"] == "Status" => object["message"].as_str().unwrap_or("").to_owned(),
        _ => text.trim_end().to_owned(),
    };
    match code.as_u16() {
        400 => bad_request(text),
        500 => internal(format!("Internal error occurred: {text}")),
        404 => status(404, "NotFound", text, json!({})),
        401 | 403 => status(
            403,
            "Forbidden",
            format!("the kubelet refused this server: {text}"),
            json!({}),
        ),
        other => status(other, "", text, json!({})),
    }
}

/// The kubelet cannot be reached.
pub(crate) fn unreachable(error: &dyn std::error::Error) -> Box<Status> {
    internal(format!(
        "Internal error occurred: error dialing backend: {}",
        crate::status::chain(error)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_internal_address_is_preferred() {
        let node = json!({"status": {"addresses": [{"type": "Hostname", "address": "vm"},
            {"type": "InternalIP", "address": "10.0.0.1"}]}});
        assert_eq!(backend::address_of(&node), Some("10.0.0.1"));
        assert_eq!(backend::address_of(&json!({})), None);
    }

    #[test]
    fn refusals_keep_the_kubelets_words() {
        let waiting = "container \"c\" in pod \"p\" is waiting to start: ContainerCreating\n";
        let status = refused(StatusCode::BAD_REQUEST, waiting.as_bytes());
        assert_eq!(
            (status.code, status.reason, status.message.as_str()),
            (400, "BadRequest", waiting.trim_end())
        );
        let object = json!({"kind": "Status", "message": "gone", "code": 404}).to_string();
        assert_eq!(refused(StatusCode::NOT_FOUND, object.as_bytes()).message, "gone");
    }

    #[test]
    fn parameters_are_encoded() {
        let mut out = String::new();
        encode("echo a&b=ü", &mut out);
        assert_eq!(out, "echo%20a%26b%3D%C3%BC");
    }
}
