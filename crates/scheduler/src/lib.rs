//! Binds pods to nodes, a client of any Kubernetes API server.
//!
//! One task owns all state and never waits for the network: watches bring changes, requests run beside it and bring
//! answers. Every decision is made by `scheduler-plan`. What was decided counts at once, before the API shows it.

mod changes;
mod events;
mod queue;
mod requests;
mod scheduling;
mod watch;

use anyhow::{Context, bail};
use changes::News;
use kube::{Api, Client};
use scheduling::Scheduling;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watch::follow;

/// Changes that may wait before the watches are made to pause.
const CHANGES_MAX: usize = 1024;
/// The kinds that must be listed before the first decision: a decision from half a picture would be wrong.
const KINDS: usize = 7;

/// Schedules pods until `shutdown`; an error means that it had to stop before.
///
/// # Errors
/// If one of its tasks ended unasked.
pub async fn run(client: Client, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (events, told) = events::Events::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(events::send(client.clone(), told));
    let changes = watch_all(&client, &mut tasks);
    let mut scheduling = Scheduling::new(client, events);
    tokio::select! {
        biased;
        result = drive(&mut scheduling, changes) => result,
        ended = tasks.join_next() => match ended {
            Some(Err(error)) => Err(error).context("a task of the scheduler failed"),
            _ => bail!("a watch of the scheduler ended"),
        },
        () = shutdown.cancelled() => Ok(()),
    }
}

fn watch_all(client: &Client, tasks: &mut JoinSet<()>) -> mpsc::Receiver<News> {
    let (sender, changes) = mpsc::channel(CHANGES_MAX);
    tasks.spawn(follow(Api::all(client.clone()), sender.clone(), News::Namespace));
    tasks.spawn(follow(Api::all(client.clone()), sender.clone(), News::Class));
    tasks.spawn(follow(Api::all(client.clone()), sender.clone(), News::Volume));
    tasks.spawn(follow(Api::all(client.clone()), sender.clone(), News::Claim));
    tasks.spawn(follow(Api::all(client.clone()), sender.clone(), News::Node));
    tasks.spawn(follow(Api::all(client.clone()), sender.clone(), News::Budget));
    tasks.spawn(follow(Api::all(client.clone()), sender, News::Pod));
    changes
}

async fn drive(scheduling: &mut Scheduling, mut changes: mpsc::Receiver<News>) -> anyhow::Result<()> {
    let mut listed = std::collections::HashSet::new();
    loop {
        let deadline = scheduling.next_deadline();
        tokio::select! {
            biased;
            change = changes.recv() => {
                let Some(change) = change else { bail!("all watches of the scheduler ended") };
                take_in(scheduling, change, &mut listed);
                // What is there already is taken in before the next decision.
                for _ in 0..CHANGES_MAX {
                    let Ok(change) = changes.try_recv() else { break };
                    take_in(scheduling, change, &mut listed);
                }
            }
            answer = scheduling.next_answer() => {
                scheduling.settle(answer.context("a request of the scheduler failed")?, Instant::now());
            }
            () = sleep_until(deadline) => {}
        }
        if listed.len() == KINDS {
            scheduling.advance(Instant::now());
        }
    }
}

fn take_in(
    scheduling: &mut Scheduling,
    news: News,
    listed: &mut std::collections::HashSet<std::mem::Discriminant<News>>,
) {
    if news.is_synced() {
        listed.insert(std::mem::discriminant(&news));
    }
    scheduling.apply(news, Instant::now());
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
