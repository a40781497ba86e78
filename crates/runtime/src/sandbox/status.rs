//! Sandboxes as CRI describes them.

use cri::v1::{LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox as Item, PodSandboxNetworkStatus, PodSandboxStatus};

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
        let addresses = if record.phase == Phase::Ready {
            record.addresses()
        } else {
            Vec::new()
        };
        let mut addresses = addresses.into_iter().map(|address| address.to_string());
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state().into(),
            created_at: record.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip: addresses.next().unwrap_or_default(),
                additional_ips: addresses.map(|ip| PodIp { ip }).collect(),
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
