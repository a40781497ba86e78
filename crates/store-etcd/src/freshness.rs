//! What the latest revision is, agreed on by the cluster.
//!
//! A read of the latest state is answered from memory once memory has come as far as the cluster was when the read
//! began. Reads that wait at the same time share one question, so that many readers cost etcd no more than one.

use crate::calls;
use crate::failure::Failure;
use crate::members::Members;
use std::sync::Arc;
use store::{Error, Revision};
use tokio::sync::{mpsc, oneshot};

/// Questions that may wait; who asks when there are more waits to ask.
const WAITING_MAX: usize = 1024;

type Answer = oneshot::Sender<Result<Revision, Failure>>;

/// The place to ask.
#[derive(Debug)]
pub(crate) struct Freshness {
    ask: mpsc::Sender<Answer>,
}

impl Freshness {
    /// The place to ask, and the task that finds the answers.
    pub(crate) fn new(members: Arc<Members>) -> (Self, impl Future<Output = ()> + Send) {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        (Self { ask }, answer(members, asked))
    }

    /// A revision that is at least that of every write which was acknowledged before the call.
    pub(crate) async fn latest(&self) -> Result<Revision, Error> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(answer).await.map_err(|_| Error::Closed)?;
        let latest = answered.await.map_err(|_| Error::Closed)?;
        latest.map_err(Failure::of_read)
    }
}

async fn answer(members: Arc<Members>, mut asked: mpsc::Receiver<Answer>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let latest = calls::latest(&members).await;
        for answer in waiting.drain(..) {
            // Who went away does not want to know any more.
            drop(answer.send(latest.clone()));
        }
    }
}
