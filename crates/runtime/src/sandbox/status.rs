//! Sandboxes as CRI describes them.

use cri::v1::{LinuxPodSandboxStatus, Namespace, PodSandbox as Item, PodSandboxNetworkStatus, PodSandboxStatus};

use super::{Phase, Sandbox};

impl Sandbox {
    /// The line of a list.
    pub(crate) fn item(&self) -> Item {
        let record = self.record();
        Item {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: record.created_at,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: record.runtime_handler,
        }
    }

    /// All there is to tell.
    pub(crate) fn status(&self) -> PodSandboxStatus {
        let record = self.record();
        let address = record.address.filter(|_| record.phase == Phase::Ready);
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: record.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip: address.map(|address| address.to_string()).unwrap_or_default(),
                additional_ips: Vec::new(),
            }),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace {
                    options: Some(self.options()),
                }),
            }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: record.runtime_handler,
        }
    }
}
