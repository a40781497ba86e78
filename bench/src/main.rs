//! Measures any Kubernetes API server, given a kubeconfig: single objects, lists, watches, memory; with `sets`, the
//! controllers of StatefulSets that work there.
//!
//! The client is as thin as can be (prepared bytes over one HTTP/2 connection per client, answers not parsed), since it
//! shares the machine with what it measures. One line per figure on standard output, as JSON with `--json`.

mod client;
mod figures;
mod load;
mod model;
mod sets;
mod target;

use anyhow::Context;
use clap::{Parser, Subcommand};
use figures::Report;
use load::Load;
use target::Target;

/// What the client does not use is left for the server beside it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a Kubernetes API server.
#[derive(Debug, Parser)]
struct Args {
    /// Kubeconfig with a client certificate or token
    #[arg(long, env = "KUBECONFIG", global = true)]
    kubeconfig: Option<std::path::PathBuf>,
    /// Objects per measurement with many clients; a tenth of it with one
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Clients at once; one is measured, too
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Objects in the list that is measured
    #[arg(long, default_value_t = 10_000)]
    list: usize,
    /// Watches that all get each event
    #[arg(long, default_value_t = 100)]
    watchers: usize,
    /// Events for the watches
    #[arg(long, default_value_t = 200)]
    events: usize,
    /// Objects to store before memory is read (0 is none)
    #[arg(long, default_value_t = 0)]
    memory: usize,
    /// Processes whose processor time and memory are read, as name=pid
    #[arg(long = "proc", value_parser = figures::parse_process, global = true)]
    processes: Vec<(String, u32)>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// What else is measured than the API server alone.
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measures the controllers of StatefulSets, with a model node that takes no time
    Sets(sets::Options),
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let kubeconfig = args.kubeconfig.as_ref().context("no --kubeconfig is given")?;
    let target = Target::read(kubeconfig)?;
    let mut report = Report::new(args.processes.clone(), args.json);
    if let Some(What::Sets(options)) = &args.what {
        return sets::measure(&target, options, &report).await;
    }
    let load = Load::begin(target).await?;
    let outcome = measure(&load, &args, &mut report).await;
    load.end().await?;
    outcome
}

async fn measure(load: &Load, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    for (clients, objects) in [(1, args.objects / 10), (args.clients, args.objects)] {
        for verb in load::VERBS {
            load.verb(verb, clients, objects, report).await?;
        }
    }
    if args.list > 0 {
        load.lists(args.list, args.clients, report).await?;
    }
    if args.watchers > 0 {
        load.fan_out(args.watchers, args.events, report).await?;
    }
    if args.memory > 0 {
        load.memory(args.memory, args.clients, report).await?;
    }
    Ok(())
}
