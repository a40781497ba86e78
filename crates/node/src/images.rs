//! Makes sure that a container's image is there.

use crate::events::Severity;
use crate::run::Node;
use crate::runtime::timed;
use crate::security::ImageUser;
use api::k8s::api::core::v1::{Container, Pod, Secret};
use base64::Engine;
use cri::v1::{AuthConfig, ImageSpec, ImageStatusRequest, PullImageRequest};
use node_plan::{ImageAction, ImageName, Sources, image_action, parse_image, resolve_policy};
use std::time::{Duration, Instant};
use tonic::Status;

/// A pull of a large image over a slow line takes its time.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);
const STATUS_TIMEOUT: Duration = Duration::from_secs(60);

/// An image that is there.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    /// The runtime's id.
    pub(crate) id: String,
    /// The user it says.
    pub(crate) user: ImageUser,
    size_bytes: u64,
}

/// Why it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageError {
    /// The name is none.
    InvalidName(String),
    /// It may not be pulled.
    NeverPull(String),
    /// The runtime could not say whether it is there.
    Inspect(String),
    /// It could not be pulled: the image, and why.
    Pull(String, String),
}

/// Makes sure that the image of a container is there under its pull policy.
pub(crate) async fn ensure(
    node: &Node,
    pod: &Pod,
    container: &Container,
    sources: &Sources,
) -> Result<Present, ImageError> {
    let text = container.image.as_deref().unwrap_or_default();
    let image = parse_image(text).map_err(ImageError::InvalidName)?;
    let policy = resolve_policy(container.image_pull_policy.as_deref(), &image);
    let present = inspect(node, &image.0)
        .await
        .map_err(|e| ImageError::Inspect(message(&e)))?;
    match image_action(policy, present.is_some()) {
        ImageAction::NeverPull => Err(ImageError::NeverPull(format!(
            "Container image \"{text}\" is not present with pull policy of Never"
        ))),
        ImageAction::Use => {
            let told = format!("Container image \"{text}\" already present on machine and can be accessed by the pod");
            node.recorder
                .pod(pod, Some(&container.name), Severity::Normal, "Pulled", told);
            present.ok_or_else(|| ImageError::Inspect("the image has vanished".into()))
        }
        ImageAction::Pull => pull(node, pod, container, &image, sources).await,
    }
}

async fn inspect(node: &Node, image: &str) -> Result<Option<Present>, Status> {
    let spec = ImageSpec {
        image: image.to_owned(),
        ..ImageSpec::default()
    };
    let request = ImageStatusRequest {
        image: Some(spec),
        verbose: false,
    };
    let answer = match node
        .runtime
        .images
        .clone()
        .image_status(timed(request, STATUS_TIMEOUT))
        .await
    {
        Ok(answer) => answer.into_inner().image,
        Err(status) if crate::runtime::is_gone(&status) => None,
        Err(status) => return Err(status),
    };
    Ok(answer.filter(|image| !image.id.is_empty()).map(|image| {
        let user = ImageUser {
            uid: image.uid.map(|v| v.value),
            name: image.username,
        };
        Present {
            id: image.id,
            user,
            size_bytes: image.size,
        }
    }))
}

async fn pull(
    node: &Node,
    pod: &Pod,
    container: &Container,
    image: &ImageName,
    sources: &Sources,
) -> Result<Present, ImageError> {
    let text = container.image.as_deref().unwrap_or_default();
    let tell = |severity, reason, message: String| {
        node.recorder.pod(pod, Some(&container.name), severity, reason, message);
    };
    tell(Severity::Normal, "Pulling", format!("Pulling image \"{text}\""));
    let asked = Instant::now();
    let failed = |why: String| ImageError::Pull(text.to_owned(), why);
    let permit = node.pulls.acquire().await.map_err(|e| failed(e.to_string()))?;
    let begun = Instant::now();
    let result = pull_with_secrets(node, pod, image, sources).await;
    drop(permit);
    if let Err(status) = result {
        let why = message(&status);
        tell(
            Severity::Warning,
            "Failed",
            format!("Failed to pull image \"{text}\": {why}"),
        );
        return Err(failed(why));
    }
    let present = inspect(node, &image.0).await.map_err(|e| failed(message(&e)))?;
    let present = present.ok_or_else(|| failed("the image is not there after it was pulled".into()))?;
    let round = |d: Duration| format!("{:?}", Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(0)));
    tell(
        Severity::Normal,
        "Pulled",
        format!(
            "Successfully pulled image \"{text}\" in {} ({} including waiting). Image size: {} bytes.",
            round(begun.elapsed()),
            round(asked.elapsed()),
            present.size_bytes
        ),
    );
    Ok(present)
}

/// Tries each secret that is for the image's registry, then without any.
async fn pull_with_secrets(node: &Node, pod: &Pod, image: &ImageName, sources: &Sources) -> Result<(), Status> {
    let sandbox_config = crate::sandbox_config::sandbox_config(node, pod, 0).ok();
    let names = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten());
    let secrets = names.filter_map(|reference| sources.secrets.get(&reference.name));
    let mut auths: Vec<Option<AuthConfig>> = secrets.flat_map(|s| credentials(s, &image.0)).map(Some).collect();
    if auths.is_empty() {
        auths.push(None);
    }
    let mut last = Status::unknown("no try was made");
    for auth in auths {
        let spec = ImageSpec {
            image: image.0.clone(),
            ..ImageSpec::default()
        };
        let request = PullImageRequest {
            image: Some(spec),
            auth,
            sandbox_config: sandbox_config.clone(),
        };
        match node
            .runtime
            .images
            .clone()
            .pull_image(timed(request, PULL_TIMEOUT))
            .await
        {
            Ok(_) => return Ok(()),
            Err(status) => last = status,
        }
    }
    Err(last)
}

/// An error as kubelets show it.
pub(crate) fn message(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// The credentials of a `kubernetes.io/dockerconfigjson` (or `dockercfg`) secret for an image's registry.
fn credentials(secret: &Secret, image: &str) -> Vec<AuthConfig> {
    let data = secret.data.as_ref();
    let json = |key: &str| {
        data.and_then(|d| d.get(key))
            .and_then(|b| serde_json::from_slice::<serde_json::Value>(&b.0).ok())
    };
    let auths = json(".dockerconfigjson")
        .map(|v| v["auths"].clone())
        .or_else(|| json(".dockercfg"));
    let Some(serde_json::Value::Object(auths)) = auths else {
        return Vec::new();
    };
    let (host, _) = split_registry(image);
    let for_host = |key: &str| {
        let bare = key.trim_start_matches("https://").trim_start_matches("http://");
        let (name, path) = bare.split_once('/').unwrap_or((bare, ""));
        let is_hub = matches!(name, "index.docker.io" | "docker.io" | "registry-1.docker.io") && host == "docker.io";
        let path = path.trim_end_matches('/');
        let is_path = path.is_empty() || is_hub || image.starts_with(&format!("{name}/{path}/"));
        (name == host || is_hub) && is_path
    };
    let entry = |entry: &serde_json::Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(text("auth"))
            .unwrap_or_default();
        let pair = String::from_utf8_lossy(&decoded).into_owned();
        let (user, password) = pair.split_once(':').unwrap_or_default();
        AuthConfig {
            username: Some(text("username"))
                .filter(|u| !u.is_empty())
                .unwrap_or_else(|| user.to_owned()),
            password: Some(text("password"))
                .filter(|p| !p.is_empty())
                .unwrap_or_else(|| password.to_owned()),
            identity_token: text("identitytoken"),
            ..AuthConfig::default()
        }
    };
    auths
        .iter()
        .filter(|(key, _)| for_host(key))
        .map(|(_, value)| entry(value))
        .collect()
}

/// The registry's host of an image name, and the rest.
fn split_registry(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::ByteString;

    #[test]
    fn credentials_go_only_to_their_registry() {
        let config = serde_json::json!({"auths": {
            "localhost:5000": {"auth": base64::engine::general_purpose::STANDARD.encode("me:secret:x")},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
        }});
        let data = [(
            ".dockerconfigjson".to_owned(),
            ByteString(config.to_string().into_bytes()),
        )]
        .into();
        let secret = Secret {
            data: Some(data),
            ..Secret::default()
        };
        let users = |image: &str| {
            credentials(&secret, image)
                .into_iter()
                .map(|a| (a.username, a.password))
                .collect::<Vec<_>>()
        };
        assert_eq!(users("localhost:5000/a:1"), [("me".to_owned(), "secret:x".to_owned())]);
        assert_eq!(users("nginx:1"), [("hub".to_owned(), "p".to_owned())]);
        assert!(users("ghcr.io/a/b:1").is_empty());
    }
}
