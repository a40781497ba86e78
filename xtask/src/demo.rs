//! `cargo xtask demo`: from a fresh clone to a running StatefulSet, every step checked.

use crate::{debian, image, shell};
use anyhow::{Context, bail};
use conformance::containerd::Containerd;
use conformance::process::{Process, within};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Short, since unix socket paths may have 107 bytes only, and outside the clone, since it is root's.
const DATA_DIR: &str = "/var/lib/steadfast-demo";
const IMAGE: &str = "steadfast.local/web:1";

struct Options {
    once: bool,
    containerd: bool,
}

/// Builds, starts, walks; then stays, or with `--once` removes everything again.
///
/// # Errors
/// When a step or a check fails.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let options = parse(words)?;
    debian::install(&[debian::TO_BUILD])?;
    println!("Building Steadfast (release; the first time takes some minutes) …");
    shell::run(shell::cargo().args(["build", "--release", "--package", "steadfast"]))?;
    let images = shell::target().join("images");
    for name in ["web", "pause"] {
        image::build(name, &images.join(format!("{name}.tar")))?;
    }
    if options.containerd {
        debian::install(&[
            ("containerd", "containerd"),
            ("runc", "runc"),
            ("/usr/lib/cni/bridge", "containernetworking-plugins"),
        ])?;
    }
    if !debian::is_root() {
        println!(
            "Pods need root: namespaces, cgroups, mounts and a network bridge. The rest runs through sudo; it keeps to {DATA_DIR}, \
             the bridge steadfast0 and the address 10.96.0.10."
        );
        return again_as_root(words);
    }
    walk(&options, &images)
}

fn parse(words: &[&str]) -> anyhow::Result<Options> {
    let mut options = Options {
        once: false,
        containerd: false,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--once" => options.once = true,
            "--runtime" => match words.next() {
                Some(&"containerd") => options.containerd = true,
                Some(&"embedded") => options.containerd = false,
                other => bail!("--runtime is embedded or containerd, not {other:?}"),
            },
            _ => bail!("unknown option {word:?}; known: --once, --runtime containerd"),
        }
    }
    Ok(options)
}

/// The build above belongs to the user; this program itself is run again as root.
fn again_as_root(words: &[&str]) -> anyhow::Result<()> {
    let this = std::env::current_exe()?;
    let target = format!("CARGO_TARGET_DIR={}", shell::target().display());
    shell::run(
        Command::new("sudo")
            .arg(target)
            .arg(this)
            .arg("demo-as-root")
            .args(words),
    )
}

/// The part that needs root, after [`run`] has built everything.
///
/// # Errors
/// When a step or a check fails.
pub(crate) fn run_as_root(words: &[&str]) -> anyhow::Result<()> {
    walk(&parse(words)?, &shell::target().join("images"))
}

fn walk(options: &Options, images: &Path) -> anyhow::Result<()> {
    let steadfast = shell::target().join("release/steadfast");
    let data = ["--data-dir", DATA_DIR];
    // What an earlier demo left would make this one start in the middle.
    shell::run(
        Command::new(&steadfast)
            .args(["reset", "--yes"])
            .args(data)
            .stdout(Stdio::null()),
    )?;
    let containerd = start_containerd(options.containerd, images)?;
    let mut up = Command::new(&steadfast);
    up.arg("up").args(data).args(["--listen", &listen()?]);
    match &containerd {
        Some(containerd) => {
            up.args(["--container-runtime-endpoint", &containerd.endpoint()]);
        }
        None => shell::run(
            Command::new(&steadfast)
                .args(["image", "load"])
                .args(data)
                .arg(images.join("web.tar")),
        )?,
    }
    let mut daemon = start(&mut up)?;
    let kubeconfig = PathBuf::from(DATA_DIR).join("admin.kubeconfig");
    let walked = shell::run(
        Command::new(&steadfast)
            .args(["walk", "--image", IMAGE])
            .arg("--kubeconfig")
            .arg(&kubeconfig),
    );
    if walked.is_ok() && !options.once {
        invite(&kubeconfig, &steadfast);
        // Ctrl-C reaches the daemon too: it is in our process group.
        daemon.wait_for_ever()?;
        return Ok(());
    }
    if walked.is_err() {
        eprintln!("the daemon's log is in {}", log_path().display());
    }
    daemon.signal("INT")?;
    daemon.wait(Duration::from_secs(30))?;
    let removed = shell::run(
        Command::new(&steadfast)
            .args(["reset", "--yes"])
            .args(data)
            .stdout(Stdio::null()),
    );
    walked.and(removed)
}

fn start_containerd(wanted: bool, images: &Path) -> anyhow::Result<Option<Containerd>> {
    if !wanted {
        return Ok(None);
    }
    let dir = tempdir()?;
    println!("Starting a containerd of our own in {} …", dir.display());
    let containerd = Containerd::start(&dir, "sfcni0", "10.244.0.0/16")?;
    for name in ["pause", "web"] {
        containerd.import(&images.join(format!("{name}.tar")))?;
    }
    Ok(Some(containerd))
}

fn tempdir() -> anyhow::Result<PathBuf> {
    Ok(
        shell::output(Command::new("mktemp").args(["-d", "/var/tmp/sf-demo-XXXXXX"]))?
            .trim()
            .into(),
    )
}

fn log_path() -> PathBuf {
    shell::target().join("demo.log")
}

fn start(up: &mut Command) -> anyhow::Result<Process> {
    let log = File::create(log_path())?;
    let mut daemon = Process::start(up.stdout(Stdio::piped()).stderr(log).stdin(Stdio::null()))?;
    let out = daemon.child().stdout.take().context("no pipe")?;
    let ready = within(Duration::from_secs(60), "the start of steadfast", move || {
        let mut lines = BufReader::new(out).lines();
        for line in &mut lines {
            let line = line?;
            if line.starts_with("ready") {
                println!("Steadfast is {line}");
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(());
            }
        }
        bail!("it ended")
    });
    ready.with_context(|| std::fs::read_to_string(log_path()).unwrap_or_default())?;
    Ok(daemon)
}

/// The usual address, or another one of loopback if that is taken.
fn listen() -> anyhow::Result<String> {
    let usual = TcpListener::bind("127.0.0.1:6443");
    Ok(usual
        .or_else(|_| TcpListener::bind("127.0.0.1:0"))?
        .local_addr()?
        .to_string())
}

fn invite(kubeconfig: &Path, steadfast: &Path) {
    println!(
        "
It stays up. In another terminal (as root):

  export KUBECONFIG={}

and then, for example:

  kubectl get statefulset,pod,pvc -o wide
  kubectl scale statefulset web --replicas=4 && kubectl get pods -w
  dig @10.96.0.10 +short web-0.nginx.default.svc.cluster.local

Ctrl-C here stops the daemon; containers go on. Remove everything with:

  {} reset --data-dir {DATA_DIR}",
        kubeconfig.display(),
        steadfast.display()
    );
}
