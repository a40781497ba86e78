//! Lifecycle hooks: what is done right after a container's start and right before its end.

use crate::http::{self, Target};
use crate::run::Node;
use api::k8s::api::core::v1::{Container, HTTPGetAction, LifecycleHandler};
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use std::time::Duration;

/// A hook's own call is bounded by the container's grace; this is for runtimes that want a number.
const EXEC_MAX: Duration = Duration::from_secs(24 * 3600);

/// Runs a hook to its end.
///
/// # Errors
/// What went wrong, for the event.
pub(crate) async fn run(
    node: &Node,
    hook: &LifecycleHandler,
    container_id: &str,
    definition: Option<&Container>,
    pod_ip: &str,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = node
            .runtime
            .exec_sync(container_id, &command, EXEC_MAX)
            .await
            .map_err(|s| s.message().to_owned())?;
        if answer.exit_code != 0 {
            let output =
                String::from_utf8_lossy(&answer.stderr).into_owned() + &String::from_utf8_lossy(&answer.stdout);
            return Err(format!(
                "command '{}' exited with {}: {output}",
                command.join(" "),
                answer.exit_code
            ));
        }
    } else if let Some(get) = &hook.http_get {
        let target = target(get, definition, pod_ip)?;
        let answer = http::get(&target, "kube-lifecycle/1.36").await?;
        if !(200..400).contains(&answer.code) {
            return Err(format!("HTTP hook failed with statuscode: {}", answer.code));
        }
    } else if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    // tcpSocket is accepted for backward compatibility and does nothing, as the API says.
    Ok(())
}

/// The target of an HTTP probe or hook.
///
/// # Errors
/// A named port that the container does not have.
pub(crate) fn target(get: &HTTPGetAction, definition: Option<&Container>, pod_ip: &str) -> Result<Target, String> {
    let host = get.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(pod_ip);
    let headers = get
        .http_headers
        .iter()
        .flatten()
        .map(|h| (h.name.clone(), h.value.clone()))
        .collect();
    Ok(Target {
        scheme: get.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase(),
        host: host.to_owned(),
        port: port(&get.port, definition)?,
        path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
        headers,
    })
}

/// A port given as a number or by its name in the container.
///
/// # Errors
/// There is no such port.
pub(crate) fn port(port: &IntOrString, definition: Option<&Container>) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = definition.and_then(|d| d.ports.as_deref()).unwrap_or_default();
            let named = ports
                .iter()
                .find(|p| p.name.as_deref() == Some(name))
                .map(|p| p.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let valid = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    valid.ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name}"),
    })
}
