//! What the binary does with the runtime, for the tests: serves CRI, and is the monitor and the OCI runtime again.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let code = match args.first().map(String::as_str) {
        Some("oci") => oci::main(args[1..].to_vec()),
        Some("monitor") => runtime::monitor::main(args[1..].to_vec()),
        Some("serve") => serve(&args[1..]),
        Some("reset") => reset(&args[1..]),
        _ => {
            eprintln!("usage: testbed serve|reset ROOT STATE BRIDGE CIDR [OCI-RUNTIME] | monitor … | oci …");
            2
        }
    };
    std::process::exit(code);
}

fn config(args: &[String]) -> runtime::Config {
    let state = PathBuf::from(&args[1]);
    let oci_runtime = match args.get(4) {
        Some(path) => runtime::OciRuntime::External(path.into()),
        None => runtime::OciRuntime::Embedded,
    };
    // NAME=PROGRAM
    let handlers = std::env::var("TESTBED_HANDLER").unwrap_or_default();
    let handlers = handlers
        .split_once('=')
        .map(|(name, path)| (name.to_owned(), path.into()));
    runtime::Config {
        handlers: handlers.into_iter().collect(),
        socket: state.join("cri.sock"),
        state,
        bridge: args[2].clone(),
        pod_cidrs: args[3]
            .split(',')
            .map(|range| range.parse().expect("a range of addresses"))
            .collect(),
        cgroup_parent: format!("/{}", args[2]),
        oci_runtime,
        ..runtime::Config::new(PathBuf::from(&args[0]).as_path())
    }
}

fn serve(args: &[String]) -> i32 {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter("debug,h2=info,tower=info,hyper=info")
        .init();
    let config = config(args);
    let tokio = tokio::runtime::Runtime::new().expect("a tokio runtime");
    let shutdown = CancellationToken::new();
    let served = tokio.block_on(async {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal handler");
        tokio::spawn({
            let shutdown = shutdown.clone();
            async move {
                terminate.recv().await;
                shutdown.cancel();
            }
        });
        runtime::serve(config, shutdown).await
    });
    report(served)
}

fn reset(args: &[String]) -> i32 {
    let tokio = tokio::runtime::Runtime::new().expect("a tokio runtime");
    report(tokio.block_on(runtime::remove_all(&config(args))))
}

fn report(done: Result<(), runtime::Error>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error:?}");
            1
        }
    }
}
