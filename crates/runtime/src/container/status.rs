//! Containers as CRI describes them.

use cri::v1::{
    Container as Item, ContainerAttributes, ContainerResources, ContainerStatus, ContainerUser, ImageSpec,
    LinuxContainerUser,
};

use super::Container;

impl Container {
    /// The line of a list.
    pub(crate) fn item(&self) -> Item {
        Item {
            id: self.id.clone(),
            pod_sandbox_id: self.record.sandbox_id.clone(),
            metadata: self.config.metadata.clone(),
            image: self.config.image.clone(),
            image_ref: self.record.image_ref.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            image_id: self.record.image_id.clone(),
        }
    }

    /// All there is to tell.
    pub(crate) fn status(&self) -> ContainerStatus {
        let progress = self.progress.borrow().clone();
        let exit = progress.exit.as_ref();
        let image = self.config.image.clone().unwrap_or_default();
        // What the user wrote is nicer to read than the id a kubelet passes on.
        let name = if image.user_specified_image.is_empty() {
            image.image.clone()
        } else {
            image.user_specified_image.clone()
        };
        ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: self.record.created_at,
            started_at: progress.started_at.unwrap_or(0),
            finished_at: exit.map_or(0, |exit| exit.at),
            exit_code: exit.map_or(0, |exit| exit.code),
            image: Some(ImageSpec { image: name, ..image }),
            image_ref: self.record.image_ref.clone(),
            reason: self.reason(),
            message: exit.map_or(String::new(), |exit| exit.message.clone()),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.record.log_path.display().to_string(),
            resources: Some(ContainerResources {
                linux: self.resources(),
                windows: None,
            }),
            image_id: self.record.image_id.clone(),
            user: Some(ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: self.record.uid.into(),
                    gid: self.record.gid.into(),
                    supplemental_groups: self.record.groups.iter().map(|group| i64::from(*group)).collect(),
                }),
            }),
            stop_signal: self.config.stop_signal,
        }
    }

    /// Why it ended, in the words that Kubernetes shows.
    fn reason(&self) -> String {
        let progress = self.progress.borrow();
        let Some(exit) = &progress.exit else {
            return String::new();
        };
        match &exit.reason {
            Some(reason) => reason.clone(),
            None if exit.oom => "OOMKilled".to_owned(),
            None if exit.code == 0 => "Completed".to_owned(),
            None => "Error".to_owned(),
        }
    }

    /// Who it is, in statistics.
    pub(crate) fn attributes(&self) -> ContainerAttributes {
        ContainerAttributes {
            id: self.id.clone(),
            metadata: Some(self.config.metadata.clone().unwrap_or_default()),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
        }
    }
}
