//! Carries plans out: steps in order, each with its guard, the status last, and an event about the outcome.

use std::collections::BTreeSet;

use controllers_plan::{Action, Chain, Event, EventType, Guard, Notice, Plan, Step, Target};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kube::Client;

use crate::record::Recorder;
use crate::send::{Refused, Written, check, send};

/// How many requests of one step may be under way: enough to keep any server busy.
const CHAINS_AT_ONCE_MAX: usize = 128;

/// How many chains may fail, none having succeeded since, before the rest is left to the next plan.
const FAILURES_IN_A_ROW_MAX: usize = 16;

/// The only one who writes.
pub(crate) struct Executor {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
}

/// What came of a plan.
pub(crate) struct Outcome {
    pub(crate) writes: Vec<Written>,
    pub(crate) result: Result<(), Refused>,
}

/// Carrying out one plan.
struct Run<'a> {
    executor: &'a Executor,
    controller: &'static str,
    /// Owners that are known to be alive since this plan began (uid).
    alive: BTreeSet<String>,
    writes: Vec<Written>,
}

impl Executor {
    /// Carries out a plan of a controller.
    pub(crate) async fn carry_out(&self, controller: &'static str, plan: &Plan) -> Outcome {
        let mut run = Run {
            executor: self,
            controller,
            alive: BTreeSet::new(),
            writes: Vec::new(),
        };
        let mut result = Ok(());
        for step in &plan.steps {
            result = run.step(step).await;
            if result.is_err() {
                break;
            }
        }
        if let Some(status) = &plan.status {
            let written = run.chain(std::slice::from_ref(status)).await;
            result = result.and(written);
        }
        for event in &plan.events {
            self.recorder.record(controller, event.clone());
        }
        Outcome {
            writes: run.writes,
            result,
        }
    }
}

impl Run<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), Refused> {
        match step {
            Step::One(action) => self.chain(std::slice::from_ref(action)).await,
            Step::Together(chains) => self.together(chains).await,
        }
    }

    async fn chain(&mut self, chain: &[Action]) -> Result<(), Refused> {
        self.check_alive(chain).await?;
        let (writes, result) = perform(self.executor, self.controller, chain).await;
        self.writes.extend(writes);
        result
    }

    /// Slow start: one, two, four … chains at a time, so that what fails for all of them fails few times.
    async fn together(&mut self, chains: &[Chain]) -> Result<(), Refused> {
        for chain in chains {
            self.check_alive(chain).await?;
        }
        let mut rest = chains;
        let mut at_once = 1;
        let mut failed_in_a_row = 0;
        let mut result = Ok(());
        while !rest.is_empty() && failed_in_a_row < FAILURES_IN_A_ROW_MAX {
            let (batch, later) = rest.split_at(at_once.min(rest.len()));
            rest = later;
            let mut running: FuturesUnordered<_> = batch
                .iter()
                .map(|chain| perform(self.executor, self.controller, chain))
                .collect();
            let mut succeeded = false;
            while let Some((writes, outcome)) = running.next().await {
                self.writes.extend(writes);
                succeeded |= outcome.is_ok();
                failed_in_a_row += usize::from(outcome.is_err());
                result = result.and(outcome);
            }
            if succeeded {
                failed_in_a_row = 0;
                at_once = (at_once * 2).min(CHAINS_AT_ONCE_MAX);
            }
        }
        result
    }

    /// Asks once per plan whether an owner lives; the guards that are about the moment are asked with their action.
    async fn check_alive(&mut self, chain: &[Action]) -> Result<(), Refused> {
        for action in chain {
            if let Some(guard @ Guard::Alive(Target { uid, .. })) = &action.guard
                && !self.alive.contains(uid)
            {
                check(&self.executor.client, guard).await?;
                self.alive.insert(uid.clone());
            }
        }
        Ok(())
    }
}

async fn perform(
    executor: &Executor,
    controller: &'static str,
    chain: &[Action],
) -> (Vec<Written>, Result<(), Refused>) {
    let mut writes = Vec::new();
    for action in chain {
        let result = perform_one(executor, controller, action).await;
        announce(executor, controller, action, &result);
        match result {
            Ok(written) => writes.push(written),
            Err(refused) => return (writes, Err(refused)),
        }
    }
    (writes, Ok(()))
}

async fn perform_one(executor: &Executor, controller: &str, action: &Action) -> Result<Written, Refused> {
    match &action.guard {
        Some(guard @ (Guard::Gone(_) | Guard::Absent(_) | Guard::NoneLeft { .. })) => {
            check(&executor.client, guard).await?
        }
        Some(Guard::Alive(_)) | None => {}
    }
    send(&executor.client, &action.write, controller).await
}

fn announce(executor: &Executor, controller: &'static str, action: &Action, result: &Result<Written, Refused>) {
    let Some(announcement) = &action.announcement else {
        return;
    };
    let (event_type, notice) = match result {
        Ok(_) => (EventType::Normal, announcement.done.clone()),
        Err(refused) if refused.is_outdated() => return,
        Err(refused) => {
            let failed = announcement.failed.as_ref();
            let with_cause = |notice: &Notice| Notice {
                reason: notice.reason,
                message: match notice.message.strip_suffix(':') {
                    Some(_) => format!("{} {}", notice.message, refused.cause()),
                    None => format!("{} error: {}", notice.message, refused.cause()),
                },
            };
            (EventType::Warning, failed.map(with_cause))
        }
    };
    if let Some(notice) = notice {
        executor.recorder.record(
            controller,
            Event {
                about: announcement.about.clone(),
                event_type,
                notice,
            },
        );
    }
}

#[cfg(test)]
mod tests;
