//! The steps of plans, carried out. Each job is a task of the pod's worker and ends with what the worker must remember.

use crate::cgroup;
use crate::container_config::{Parts, container_config};
use crate::csi::attachment;
use crate::events::Severity;
use crate::hooks;
use crate::images::{self, ImageError};
use crate::references::References;
use crate::resize::{self, Resized};
use crate::run::Node;
use crate::runtime::{CONTAINER_NAME, PRE_STOP, Record};
use crate::sandbox_config::{log_dir, sandbox_config};
use crate::volumes::{self, Mounted, Prepared, VolumeError};
use api::k8s::api::core::v1::{Container, LifecycleHandler, Pod};
use cri::v1;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Preconditions};
use node_plan::{ContainerResources, Sources};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A container is given at least this long between SIGTERM and SIGKILL, as upstream.
const GRACE_MIN_S: i64 = 2;

/// What jobs work with.
#[derive(Clone)]
pub(crate) struct Context {
    /// The agent.
    pub(crate) node: Arc<Node>,
    /// The pod.
    pub(crate) pod: Arc<Pod>,
    /// The objects it refers to.
    pub(crate) references: References,
    /// Its addresses.
    pub(crate) pod_ips: Vec<String>,
    /// Where the volumes are.
    pub(crate) mounted: Arc<Mounted>,
    /// What the pod's cgroup was last set to, if that was ever changed.
    pub(crate) cgroup: Option<ContainerResources>,
}

impl Context {
    /// What variables and files are taken from, once the API has told of all of it.
    async fn sources(&self) -> Result<Sources, String> {
        self.references
            .sources(&self.node, &self.pod, self.pod_ips.clone())
            .await
    }
}

/// What a job found.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All volumes are mounted.
    Mounted(Prepared),
    /// Volumes are not ready.
    NotMounted(VolumeError),
    /// Volumes are gone.
    Unmounted,
    /// Volumes could not be taken away.
    NotUnmounted(String),
    /// A sandbox runs.
    SandboxMade,
    /// An earlier pod of the same name has not ended yet.
    NameTaken(String),
    /// Sandbox work failed.
    SandboxFailed(String),
    /// A sandbox was stopped.
    SandboxStopped(String),
    /// A container started.
    Started,
    /// A start failed.
    NotStarted(StartError),
    /// Containers were resized, as far as it went.
    Resized(Resized),
    /// A start was given up.
    Cancelled,
    /// The API's object is deleted.
    PodDeleted,
    /// Nothing to remember; what is true is seen by looking.
    Done,
}

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartError {
    /// The waiting reason.
    pub(crate) reason: &'static str,
    /// The waiting message.
    pub(crate) message: String,
}

fn start_error(reason: &'static str, message: impl Into<String>) -> Outcome {
    Outcome::NotStarted(StartError {
        reason,
        message: message.into(),
    })
}

/// Mounts the pod's volumes.
pub(crate) async fn prepare_volumes(ctx: Context) -> Outcome {
    let node = &ctx.node;
    let prepared = match ctx.sources().await {
        Ok(sources) => volumes::prepare(node, &ctx.pod, &sources).await,
        Err(why) => Err(VolumeError::Sources { why }),
    };
    match prepared {
        Ok(prepared) => Outcome::Mounted(prepared),
        Err(error) => {
            if !matches!(error, VolumeError::NotAttached { is_news: false, .. }) {
                let told = error.to_string();
                node.recorder
                    .pod(&ctx.pod, None, Severity::Warning, "FailedMount", told);
            }
            Outcome::NotMounted(error)
        }
    }
}

/// Takes the pod's volumes away, and its cgroup.
pub(crate) async fn unmount_volumes(ctx: Context) -> Outcome {
    let uid = ctx.pod.metadata.uid.clone().unwrap_or_default();
    let root_dir = &ctx.node.config.root_dir;
    let was_attached = attachment::concerns(root_dir, &uid).await;
    if let Err(why) = volumes::take_away(root_dir, Some(&ctx.node.drivers), &uid).await {
        return Outcome::NotUnmounted(why);
    }
    if was_attached && let Err(why) = attachment::tell_use(&ctx.node).await {
        // Whoever reports the node's status does it, then.
        tracing::debug!(why, "volumes that are not in use any more were not told of");
    }
    let root = ctx.node.config.cgroup_root.clone();
    let swept = tokio::task::spawn_blocking(move || cgroup::remove_pod(&root, &uid)).await;
    if let Err(error) = swept {
        tracing::debug!(%error, "the pod's cgroup was not removed");
    }
    Outcome::Unmounted
}

/// Makes a sandbox.
pub(crate) async fn create_sandbox(ctx: Context, attempt: u32) -> Outcome {
    let node = &ctx.node;
    let failed = |why: String| {
        let told = format!("Failed to create pod sandbox: {why}");
        node.recorder
            .pod(&ctx.pod, None, Severity::Warning, "FailedCreatePodSandBox", told);
        Outcome::SandboxFailed(why)
    };
    match earlier_pod(&ctx).await {
        Ok(None) => {}
        Ok(Some(uid)) => {
            return Outcome::NameTaken(format!(
                "an earlier pod of this name (uid {uid}) has not ended here yet"
            ));
        }
        Err(status) => return failed(images::message(&status)),
    }
    let config = match sandbox_config(node, &ctx.pod, attempt) {
        Ok(config) => config,
        Err(why) => return failed(why),
    };
    if let Err(error) = tokio::fs::create_dir_all(log_dir(node, &ctx.pod)).await {
        return failed(format!("cannot make the log directory: {error}"));
    }
    if let Err(why) = make_cgroup(&ctx).await {
        return failed(why);
    }
    let handler = match runtime_handler(&ctx).await {
        Ok(handler) => handler,
        Err(why) => return failed(why),
    };
    match node.runtime.run_sandbox(config, &handler).await {
        Ok(_) => Outcome::SandboxMade,
        Err(status) => failed(images::message(&status)),
    }
}

/// Makes the pod's cgroup with its limits, at least as large as what may still run in it needs.
async fn make_cgroup(ctx: &Context) -> Result<(), String> {
    let spec = ctx.pod.spec.clone().unwrap_or_default();
    let wanted = node_plan::pod_resources(&spec);
    let limits = ctx.cgroup.map_or(wanted, |had| node_plan::larger(had, wanted));
    resize::set_cgroup(&ctx.node, &ctx.pod, limits).await
}

/// Never two live containers of one pod identity: another pod of this name of which anything is left.
async fn earlier_pod(ctx: &Context) -> Result<Option<String>, tonic::Status> {
    let meta = &ctx.pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let uids = ctx
        .node
        .runtime
        .uids_of(&text(&meta.namespace), &text(&meta.name))
        .await?;
    Ok(uids.into_iter().find(|uid| Some(uid) != meta.uid.as_ref()))
}

async fn runtime_handler(ctx: &Context) -> Result<String, String> {
    let name = ctx
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.runtime_class_name.as_deref())
        .filter(|n| !n.is_empty());
    let Some(name) = name else { return Ok(String::new()) };
    let classes: Api<api::k8s::api::node::v1::RuntimeClass> = Api::all(ctx.node.client.clone());
    let class = classes
        .get(name)
        .await
        .map_err(|e| format!("failed to get runtime class \"{name}\": {e}"))?;
    Ok(class.handler)
}

/// Stops a sandbox and releases its network.
pub(crate) async fn stop_sandbox(ctx: Context, id: String) -> Outcome {
    match ctx.node.runtime.stop_sandbox(&id).await {
        Ok(()) => Outcome::SandboxStopped(id),
        Err(status) => Outcome::SandboxFailed(images::message(&status)),
    }
}

/// Removes a sandbox.
pub(crate) async fn remove_sandbox(ctx: Context, id: String) -> Outcome {
    match ctx.node.runtime.remove_sandbox(&id).await {
        Ok(()) => Outcome::Done,
        Err(status) => Outcome::SandboxFailed(images::message(&status)),
    }
}

/// Removes a dead container and its log.
pub(crate) async fn remove_container(ctx: Context, record: Record) -> Outcome {
    if let Err(status) = ctx.node.runtime.remove_container(&record.container.id).await {
        tracing::warn!(error = %status, id = record.container.id, "a container's record could not be removed");
        // The plan asks again at once; do not spin.
        tokio::time::sleep(Duration::from_secs(1)).await;
        return Outcome::Done;
    }
    let log = log_dir(&ctx.node, &ctx.pod)
        .join(&record.container.name)
        .join(format!("{}.log", record.container.restart_count));
    match tokio::fs::remove_file(&log).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(%error, path = %log.display(), "a log could not be removed");
        }
        _ => {}
    }
    Outcome::Done
}

/// How a container is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// Its name.
    pub(crate) name: String,
    /// The sandbox.
    pub(crate) sandbox_id: String,
    /// The sandbox' number.
    pub(crate) sandbox_attempt: u32,
    /// How many times the name was started before.
    pub(crate) restart_count: i32,
    /// The delay that follows its end.
    pub(crate) backoff_s: u32,
}

/// Pulls the image, makes and starts a container, runs its postStart hook.
pub(crate) async fn start(ctx: Context, how: Start, cancel: CancellationToken) -> Outcome {
    let spec = ctx.pod.spec.clone().unwrap_or_default();
    let Some(definition) = node_plan::definition(&spec, &how.name).map(Cow::into_owned) else {
        return Outcome::Done;
    };
    let fetched = async {
        let sources = ctx
            .sources()
            .await
            .map_err(|why| start_error("CreateContainerConfigError", why))?;
        let image = images::ensure(&ctx.node, &ctx.pod, &definition, &sources)
            .await
            .map_err(image_failed)?;
        Ok((sources, image))
    };
    let fetched = tokio::select! {
        () = cancel.cancelled() => return Outcome::Cancelled,
        fetched = fetched => fetched,
    };
    let outcome = match fetched {
        Err(outcome) => outcome,
        Ok(_) if cancel.is_cancelled() => return Outcome::Cancelled,
        Ok((sources, image)) => match make(&ctx, &how, &definition, &image, sources).await {
            Ok(id) => return run_made(&ctx, &definition, &id, &cancel).await,
            Err(outcome) => outcome,
        },
    };
    tell_start_error(&ctx, &definition.name, &outcome);
    outcome
}

fn tell_start_error(ctx: &Context, name: &str, outcome: &Outcome) {
    let Outcome::NotStarted(error) = outcome else { return };
    let (reason, message) = match error.reason {
        "InvalidImageName" => ("InspectFailed", error.message.clone()),
        "ErrImageNeverPull" => ("ErrImageNeverPull", error.message.clone()),
        "ErrImagePull" => ("Failed", "Error: ErrImagePull".to_owned()),
        _ => ("Failed", format!("Error: {}", error.message)),
    };
    ctx.node
        .recorder
        .pod(&ctx.pod, Some(name), Severity::Warning, reason, message);
}

fn image_failed(error: ImageError) -> Outcome {
    match error {
        ImageError::InvalidName(why) => start_error("InvalidImageName", why),
        ImageError::NeverPull(why) => start_error("ErrImageNeverPull", why),
        ImageError::Inspect(why) => start_error("ImageInspectError", why),
        ImageError::Pull(_, why) => start_error("ErrImagePull", why),
    }
}

async fn make(
    ctx: &Context,
    how: &Start,
    definition: &Container,
    image: &images::Present,
    sources: Sources,
) -> Result<String, Outcome> {
    let failed = |status: tonic::Status| start_error("CreateContainerError", status.message());
    remove_unstarted(ctx, &definition.name).await.map_err(failed)?;
    if ctx.cgroup.is_some() {
        // What it was granted since may be more than the pod's cgroup allows.
        let made = make_cgroup(ctx).await;
        made.map_err(|why| start_error("CreateContainerError", why))?;
    }
    let target = target(ctx, &definition.name).await?;
    let parts = (ctx.clone(), how.clone(), definition.clone(), image.clone());
    // Makes files and bind mounts.
    let config = tokio::task::spawn_blocking(move || {
        let (ctx, how, definition, image) = parts;
        let parts = Parts {
            pod: &ctx.pod,
            definition: &definition,
            restart_count: how.restart_count,
            backoff_s: how.backoff_s,
            image_ref: &image.id,
            image_user: &image.user,
            mounted: &ctx.mounted,
            sources: &sources,
            target_id: target.as_deref(),
        };
        container_config(&ctx.node, &parts)
    });
    let config = config.await.unwrap_or_else(|e| Err(e.to_string()));
    let config = config.map_err(|why| start_error("CreateContainerConfigError", why))?;
    let sandbox = sandbox_config(&ctx.node, &ctx.pod, how.sandbox_attempt);
    let sandbox = sandbox.map_err(|why| start_error("CreateContainerConfigError", why))?;
    let log = log_dir(&ctx.node, &ctx.pod).join(&definition.name);
    tokio::fs::create_dir_all(&log)
        .await
        .map_err(|e| start_error("CreateContainerError", e.to_string()))?;
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: how.sandbox_id.clone(),
        config: Some(config),
        sandbox_config: Some(sandbox),
    };
    let id = ctx.node.runtime.create_container(request).await.map_err(failed)?;
    let told = format!("Created container: {}", definition.name);
    ctx.node
        .recorder
        .pod(&ctx.pod, Some(&definition.name), Severity::Normal, "Created", told);
    Ok(id)
}

/// The container whose processes an ephemeral container wants to see.
async fn target(ctx: &Context, name: &str) -> Result<Option<String>, Outcome> {
    let Some(target) = ctx.pod.spec.as_ref().and_then(|s| node_plan::target_of(s, name)) else {
        return Ok(None);
    };
    let failed = |status: tonic::Status| start_error("CreateContainerError", status.message());
    let all = ctx.node.runtime.list_containers(ctx.pod.metadata.uid.as_deref());
    let running = all.await.map_err(failed)?.into_iter().find(|c| {
        c.state == v1::ContainerState::ContainerRunning as i32
            && c.labels.get(CONTAINER_NAME).map(String::as_str) == Some(target)
    });
    match running {
        Some(container) => Ok(Some(container.id)),
        None => Err(start_error(
            "CreateContainerError",
            format!("unable to find target container \"{target}\""),
        )),
    }
}

/// Removes what an earlier run made of the container but never started.
async fn remove_unstarted(ctx: &Context, name: &str) -> Result<(), tonic::Status> {
    let uid = ctx.pod.metadata.uid.as_deref();
    for container in ctx.node.runtime.list_containers(uid).await? {
        let is_created = container.state == v1::ContainerState::ContainerCreated as i32;
        if is_created && container.labels.get(CONTAINER_NAME).map(String::as_str) == Some(name) {
            ctx.node.runtime.remove_container(&container.id).await?;
        }
    }
    Ok(())
}

async fn run_made(ctx: &Context, definition: &Container, id: &str, cancel: &CancellationToken) -> Outcome {
    let node = &ctx.node;
    let name = definition.name.as_str();
    if let Err(status) = node.runtime.start_container(id).await {
        let outcome = start_error("RunContainerError", status.message());
        tell_start_error(ctx, name, &outcome);
        return outcome;
    }
    node.recorder.pod(
        &ctx.pod,
        Some(name),
        Severity::Normal,
        "Started",
        format!("Started container {name}"),
    );
    let Some(hook) = definition.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
        return Outcome::Started;
    };
    let pod_ip = ctx.pod_ips.first().cloned().unwrap_or_default();
    let ended = tokio::select! {
        () = cancel.cancelled() => return Outcome::Cancelled,
        ended = hooks::run(node, hook, id, Some(definition), &pod_ip) => ended,
    };
    let Err(why) = ended else { return Outcome::Started };
    tracing::debug!(why, container = name, "postStart hook failed");
    node.recorder.pod(
        &ctx.pod,
        Some(name),
        Severity::Warning,
        "FailedPostStartHook",
        "PostStartHook failed",
    );
    let grace_s = ctx
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds)
        .unwrap_or(30);
    let told = "FailedPostStartHook".to_owned();
    node.recorder
        .pod(&ctx.pod, Some(name), Severity::Normal, "Killing", told);
    if let Err(status) = node.runtime.stop_container(id, grace_s.max(GRACE_MIN_S)).await {
        tracing::warn!(error = %status, container = name, "a container whose postStart hook failed could not be stopped");
    }
    start_error("PostStartHookError", format!("PostStartHook failed: {why}"))
}

/// Runs the preStop hook and stops a container within its grace.
pub(crate) async fn kill(ctx: Context, record: Record, grace_s: i64, why: String) -> Outcome {
    let node = &ctx.node;
    let name = record.container.name.clone();
    node.recorder
        .pod(&ctx.pod, Some(&name), Severity::Normal, "Killing", why);
    let begun = Instant::now();
    let mut left_s = grace_s.max(GRACE_MIN_S);
    if let Some((hook, definition)) = pre_stop(&ctx.pod, &record) {
        let pod_ip = ctx.pod_ips.first().cloned().unwrap_or_default();
        let limit = Duration::from_secs(u64::try_from(left_s).unwrap_or(0));
        let hook = hooks::run(node, &hook, &record.container.id, definition.as_ref(), &pod_ip);
        match tokio::time::timeout(limit, hook).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                tracing::debug!(why, container = name, "preStop hook failed");
                node.recorder.pod(
                    &ctx.pod,
                    Some(&name),
                    Severity::Warning,
                    "FailedPreStopHook",
                    "PreStopHook failed",
                );
            }
            Err(_) => tracing::debug!(container = name, "preStop hook took the whole grace"),
        }
        let used = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
        left_s = (left_s - used).max(GRACE_MIN_S);
    }
    if let Err(status) = node.runtime.stop_container(&record.container.id, left_s).await {
        tracing::warn!(error = %status, container = name, "a container could not be stopped, trying again");
        // The plan asks again at once; do not spin.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Outcome::Done
}

/// The preStop hook: from the pod, or, when its object is gone, from what was written on the container.
fn pre_stop(pod: &Pod, record: &Record) -> Option<(LifecycleHandler, Option<Container>)> {
    let spec = pod.spec.as_ref();
    let definition = spec.and_then(|s| node_plan::definition(s, &record.container.name).map(Cow::into_owned));
    let hook = match &definition {
        Some(definition) => definition.lifecycle.as_ref().and_then(|l| l.pre_stop.clone()),
        None => record
            .annotations
            .get(PRE_STOP)
            .and_then(|json| serde_json::from_str(json).ok()),
    };
    hook.map(|hook| (hook, definition))
}

/// Removes a pod's logs.
pub(crate) async fn remove_logs(node: &Node, pod: &Pod) {
    let logs = log_dir(node, pod);
    match tokio::fs::remove_dir_all(&logs).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(%error, path = %logs.display(), "logs could not be removed");
        }
        _ => {}
    }
}

/// Tells the API that nothing of the pod is left here, once its last status is there.
pub(crate) async fn delete_pod(ctx: Context, flushed: impl Future<Output = ()> + Send) -> Outcome {
    flushed.await;
    remove_logs(&ctx.node, &ctx.pod).await;
    let pods: Api<Pod> = Api::namespaced(
        ctx.node.client.clone(),
        ctx.pod.metadata.namespace.as_deref().unwrap_or_default(),
    );
    let mut params = DeleteParams::default().grace_period(0);
    params.preconditions = Some(Preconditions {
        uid: ctx.pod.metadata.uid.clone(),
        resource_version: None,
    });
    match pods.delete(&ctx.pod.name_any(), &params).await {
        Ok(_) => Outcome::PodDeleted,
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Outcome::PodDeleted,
        Err(error) => {
            tracing::warn!(%error, pod = ctx.pod.name_any(), "the pod could not be deleted from the API, trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
            Outcome::Done
        }
    }
}
