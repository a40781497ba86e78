//! Which of several control planes acts: with a store of its own a control plane is alone; those that share etcd elect
//! a leader for each component.

use crate::config::Config;
use anyhow::Context;
use kube::Client;
use leader_election::Candidate;
use tokio_util::sync::CancellationToken;

/// How a component of this control plane comes to act.
#[derive(Clone, Debug)]
pub(crate) struct Election {
    /// Who we are; `None` if there is nobody else.
    identity: Option<String>,
}

impl Election {
    pub(crate) fn of(config: &Config) -> Self {
        let shared = config.etcd.is_some();
        Self {
            identity: shared.then(|| leader_election::identity(&config.node_name)),
        }
    }

    /// Runs a component until shutdown, while it leads; `lease` is the name of its Lease in kube-system.
    ///
    /// # Errors
    /// Those of the component.
    pub(crate) async fn run<W, F>(
        self,
        lease: &'static str,
        client: Client,
        shutdown: CancellationToken,
        mut work: W,
    ) -> anyhow::Result<()>
    where
        W: FnMut(Client, CancellationToken) -> F,
        F: Future<Output = anyhow::Result<()>>,
    {
        let Some(identity) = self.identity else {
            return work(client, shutdown).await;
        };
        let config = leader_election::Config::new(lease, &identity);
        let candidate = Candidate::new(client.clone(), config).context("the leader election")?;
        candidate
            .run(shutdown, |leading| work(client.clone(), leading))
            .await
            .map(drop)
    }
}
