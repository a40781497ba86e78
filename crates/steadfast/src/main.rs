//! Kubernetes StatefulSets as one binary: the composition root.
//!
//! `steadfast oci` and `steadfast monitor` are this same binary re-executed as small single-threaded processes; they
//! must be reached before any thread exists. Everything else starts the async runtime and runs one command.

#![deny(unsafe_code)]

mod allocator;
mod args;
mod audit_log;
mod client_certificates;
mod cluster;
mod config;
mod controller_manager;
mod csi_driver;
mod daemon;
mod dns_server;
mod down;
mod election;
mod etcd;
mod feature_gates;
mod health;
mod image;
mod inside;
mod kubeconfig;
mod kubelets;
mod live;
mod local_disks;
mod manifests;
mod node_addresses;
mod pki;
mod plan;
mod preflight;
mod ranges;
mod services;
mod snapshot;
mod up;
mod walk;
mod why;

use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("oci") => return exit(oci::main(words.collect())),
        Some("monitor") => return exit(runtime::monitor::main(words.collect())),
        _ => {}
    }
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(dispatch(args))?;
    // Blocking reads of a terminal must not keep a finished command alive.
    runtime.shutdown_background();
    Ok(code)
}

async fn dispatch(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Up(up) => up::run(*up).await,
        Command::Down(down) => down::down(down).await,
        Command::Reset(reset) => down::reset(reset).await,
        Command::Image(image) => image::run(image).await,
        Command::Snapshot(command) => tokio::task::spawn_blocking(move || snapshot::run(&command)).await?,
        Command::Check(command) => tokio::task::spawn_blocking(move || snapshot::check(&command)).await?,
        Command::Controllers(controllers) => controller_manager::run(controllers).await,
        Command::Dns(dns) => dns_server::run(dns).await,
        Command::CsiLocal(driver) => csi_driver::run(driver).await,
        Command::Why(why) => why::run(why).await,
        Command::Plan(plan) => plan::run(plan).await,
        Command::Walk(walk) => walk::run(walk).await,
    }
}
