//! The container definitions of a pod, whatever their sort, as one type.

use api::k8s::api::core::v1::{Container, EphemeralContainer, PodSpec};
use std::borrow::Cow;

/// All definitions: containers, init containers, ephemeral containers.
pub fn definitions(spec: &PodSpec) -> impl Iterator<Item = Cow<'_, Container>> {
    let fixed = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let added = spec.ephemeral_containers.iter().flatten();
    fixed
        .map(Cow::Borrowed)
        .chain(added.map(|added| Cow::Owned(of_ephemeral(added))))
}

/// The definition of a name.
pub fn definition<'a>(spec: &'a PodSpec, name: &str) -> Option<Cow<'a, Container>> {
    definitions(spec).find(|definition| definition.name == name)
}

/// The container whose processes an ephemeral container of this name sees, if it names one.
pub fn target_of<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a str> {
    let added = spec.ephemeral_containers.iter().flatten().find(|c| c.name == name)?;
    added
        .target_container_name
        .as_deref()
        .filter(|target| !target.is_empty())
}

/// An ephemeral container as a container that is never started again.
pub(crate) fn of_ephemeral(added: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        resources,
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
        // The API allows none of the rest in an ephemeral container.
        ..
    } = added.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        resources,
        restart_policy: Some("Never".to_owned()),
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
        ..Container::default()
    }
}
