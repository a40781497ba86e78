//! The one thread that writes: it takes all commands that wait, makes them durable with one sync, lets the index show
//! them, and only then answers. So the busier the store, the less a write costs.

use crate::pace::Pace;
use crate::queue::Queue;
use crate::{layout, storage};
use redb::Database;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use store::index::Index;
use store::{Error, LeaseId, Stage, Txn, TxnResponse};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Commands that may wait; more than this and callers wait to send.
const QUEUED_COMMANDS_MAX: usize = 4096;

/// A write with the place for its answer.
#[derive(Debug)]
pub(crate) enum Command {
    /// Changes keys.
    Txn(Txn, oneshot::Sender<Result<TxnResponse, Error>>),
    /// Makes a lease.
    Grant(Duration, oneshot::Sender<Result<LeaseId, Error>>),
    /// Ends a lease.
    Revoke(LeaseId, oneshot::Sender<Result<(), Error>>),
}

/// An answer that is held back until the group is durable.
enum Answer {
    Txn(Result<TxnResponse, Error>, oneshot::Sender<Result<TxnResponse, Error>>),
    Grant(LeaseId, oneshot::Sender<Result<LeaseId, Error>>),
    Revoke(Result<(), Error>, oneshot::Sender<Result<(), Error>>),
}

/// What was asked before the medium failed cannot be told apart from what was not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a write to the database failed, so nothing more is written until it is opened again")]
struct WriteFailed(#[source] Arc<redb::Error>);

/// The handle of the thread; dropping it ends the thread after the last waiting command.
#[derive(Debug)]
pub(crate) struct Committer {
    queue: Arc<Queue<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(crate) fn start(index: Arc<Index>, database: Database) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(QUEUED_COMMANDS_MAX));
        let writer = Writer {
            index,
            database,
            queue: queue.clone(),
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), Error> {
        self.queue.push(command).await.map_err(|_| Error::Closed)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.queue.close();
        // Waiting releases the file, so that it can be opened again at once.
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }
}

struct Writer {
    index: Arc<Index>,
    database: Database,
    queue: Arc<Queue<Command>>,
    /// Set after a failed write. What the file holds is unknown then, so nothing may follow but opening it anew.
    failed: Option<WriteFailed>,
}

/// Ends the queue and the watches even if the writer panics.
struct CloseAtEnd(Arc<Index>, Arc<Queue<Command>>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.1.close();
        self.0.close();
    }
}

impl Writer {
    fn run(mut self) {
        let _close = CloseAtEnd(self.index.clone(), self.queue.clone());
        let mut pace = Pace::default();
        while let Some(commands) = self.queue.take_all(self.patience(), pace.group(), pace.delay()) {
            let (size, begun) = (commands.len(), std::time::Instant::now());
            self.commit(commands);
            pace.note(size, self.queue.len(), begun.elapsed());
        }
    }

    fn patience(&self) -> Option<Duration> {
        if self.failed.is_some() {
            return None;
        }
        let end = self.index.next_lease_end()?;
        Some(end.saturating_duration_since(Instant::now()))
    }

    fn commit(&mut self, commands: impl IntoIterator<Item = Command>) {
        let mut stage = self.index.stage();
        let answers: Vec<_> = commands
            .into_iter()
            .map(|command| self.stage(&mut stage, command))
            .collect();
        self.end_leases(&mut stage);
        let failure = if self.failed.is_some() {
            self.failed.clone()
        } else {
            self.make_durable(stage)
        };
        for answer in answers {
            answer.send(failure.as_ref());
        }
    }

    fn stage(&self, stage: &mut Stage, command: Command) -> Answer {
        match command {
            Command::Txn(txn, reply) => Answer::Txn(self.index.stage_txn(stage, txn), reply),
            Command::Grant(ttl, reply) => Answer::Grant(stage.grant(ttl), reply),
            Command::Revoke(lease, reply) => Answer::Revoke(self.index.stage_revoke(stage, lease), reply),
        }
    }

    fn end_leases(&self, stage: &mut Stage) {
        for lease in self.index.ended_leases(Instant::now()) {
            if let Err(error) = self.index.stage_revoke(stage, lease) {
                tracing::debug!(lease, %error, "lease is revoked in the same group");
            }
        }
    }

    fn make_durable(&mut self, stage: Stage) -> Option<WriteFailed> {
        if stage.is_empty() {
            return None;
        }
        match layout::write(&self.database, &stage) {
            Ok(()) => {
                self.index.apply(stage);
                None
            }
            Err(error) => {
                tracing::error!(%error, "cannot write the database; no more writes until it is opened again");
                self.index.close();
                self.failed = Some(WriteFailed(Arc::new(error)));
                self.failed.clone()
            }
        }
    }
}

impl Answer {
    fn send(self, failure: Option<&WriteFailed>) {
        // A caller that went away does not want its answer.
        match self {
            Self::Txn(answer, reply) => drop(reply.send(or_failure(answer, failure))),
            Self::Grant(lease, reply) => drop(reply.send(or_failure(Ok(lease), failure))),
            Self::Revoke(answer, reply) => drop(reply.send(or_failure(answer, failure))),
        }
    }
}

fn or_failure<T>(answer: Result<T, Error>, failure: Option<&WriteFailed>) -> Result<T, Error> {
    match failure {
        Some(failure) => Err(storage(failure.clone())),
        None => answer,
    }
}
