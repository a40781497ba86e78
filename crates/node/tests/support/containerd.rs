//! A containerd of the test's own: root, state, socket and images in a temporary directory.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The only image: busybox as `/bin/sh` and more.
pub(crate) const IMAGE: &str = "localhost/node-test:1";
const PAUSE: &str = "localhost/node-test-pause:1";

/// A running containerd; ended when dropped.
pub(crate) struct Containerd {
    dir: tempfile::TempDir,
    process: Child,
}

impl Containerd {
    /// Starts one, unless this machine cannot.
    pub(crate) fn start() -> Option<Self> {
        let busybox = Path::new("/bin/busybox");
        let has = |name: &str| {
            Command::new(name)
                .arg("--version")
                .stdout(Stdio::null())
                .status()
                .is_ok()
        };
        if !nix::unistd::geteuid().is_root() || !has("containerd") || !has("runc") || !busybox.exists() {
            eprintln!("skipped: needs root, containerd, runc and /bin/busybox");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("nt").tempdir().unwrap();
        let config = dir.path().join("config.toml");
        std::fs::write(&config, configuration(dir.path())).unwrap();
        let log = std::fs::File::create(dir.path().join("containerd.log")).unwrap();
        let process = Command::new("containerd")
            .arg("-c")
            .arg(&config)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let containerd = Self {
            process: process.unwrap(),
            dir,
        };
        let begun = Instant::now();
        while !containerd.ctr(&["version"]).status.success() {
            assert!(begun.elapsed() < Duration::from_secs(30), "containerd does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
        containerd.import(IMAGE, &["/bin/sh"]);
        containerd.import(PAUSE, &["/bin/busybox", "sleep", "1000000"]);
        Some(containerd)
    }

    /// The directory of all that is this test's.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// Where CRI is served.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn ctr(&self, args: &[&str]) -> std::process::Output {
        Command::new("ctr")
            .arg("-a")
            .arg(self.socket())
            .args(["-n", "k8s.io"])
            .args(args)
            .output()
            .unwrap()
    }

    /// The ids of all containers, one a line.
    pub(crate) fn containers(&self) -> String {
        String::from_utf8(self.ctr(&["containers", "ls", "-q"]).stdout).unwrap()
    }

    /// How many containers that are no sandboxes run.
    pub(crate) fn running(&self) -> usize {
        let tasks = String::from_utf8(self.ctr(&["tasks", "ls"]).stdout).unwrap();
        let live: Vec<&str> = tasks
            .lines()
            .filter(|l| l.contains("RUNNING"))
            .filter_map(|l| l.split(' ').next())
            .collect();
        let filter = "labels.\"io.cri-containerd.kind\"==container";
        let containers = String::from_utf8(self.ctr(&["containers", "ls", "-q", filter]).stdout).unwrap();
        containers.lines().filter(|id| live.contains(id)).count()
    }

    fn import(&self, name: &str, command: &[&str]) {
        let archive = self.dir.path().join("image.tar");
        write_image(&archive, name, command);
        let imported = self.ctr(&["images", "import", archive.to_str().unwrap()]);
        assert!(
            imported.status.success(),
            "{}",
            String::from_utf8_lossy(&imported.stderr)
        );
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // What a failed test left.
        for id in self.containers().lines() {
            self.ctr(&["tasks", "kill", "-s", "SIGKILL", id]);
            self.ctr(&["tasks", "rm", "-f", id]);
        }
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = ended {
            eprintln!("containerd: {error}");
        }
        remove_cgroups(
            Path::new("/sys/fs/cgroup"),
            &format!("steadfast-test-{}", std::process::id()),
        );
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = |line: &&str| {
            line.split(' ')
                .nth(1)
                .is_some_and(|p| Path::new(p).starts_with(self.dir.path()))
        };
        for line in mounts.lines().rev().filter(below) {
            let point = line.split(' ').nth(1).unwrap_or_default();
            if let Err(error) = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH) {
                eprintln!("{point}: {error}");
            }
        }
    }
}

/// Removes this test's cgroups from each hierarchy; those of a test that runs beside are in use and stay.
fn remove_cgroups(root: &Path, name: &str) {
    fn remove(dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                remove(&entry.path());
            }
        }
        if let Err(error) = std::fs::remove_dir(dir)
            && dir.exists()
        {
            eprintln!("{}: {error}", dir.display());
        }
    }
    let hierarchies = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_path_buf()]) {
        let dir = hierarchy.join(name);
        if dir.exists() {
            remove(&dir);
        }
    }
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n[grpc]\n  address = \"{dir}/s\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{PAUSE}\"\n  restrict_oom_score_adj = true\n\
         \x20 stream_server_port = \"0\"\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  conf_dir = \"{dir}/cni\"\n"
    )
}

/// A `docker save` archive of one layer: busybox and its names.
fn write_image(archive: &Path, name: &str, command: &[&str]) {
    let layer = layer();
    let digest = hex(&layer);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin"], "Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let config = config.to_string().into_bytes();
    let config_name = format!("{}.json", hex(&config));
    let manifest = serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut out = tar::Builder::new(std::fs::File::create(archive).unwrap());
    for (path, data) in [
        (config_name.as_str(), config.as_slice()),
        ("layer.tar", layer.as_slice()),
        ("manifest.json", manifest.to_string().as_bytes()),
    ] {
        out.append_data(&mut header(data.len(), 0o644), path, data).unwrap();
    }
    out.finish().unwrap();
}

fn layer() -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        let mut header = header(0, 0o755);
        header.set_entry_type(tar::EntryType::Directory);
        out.append_data(&mut header, format!("{dir}/"), std::io::empty())
            .unwrap();
    }
    let busybox = std::fs::read("/bin/busybox").unwrap();
    out.append_data(&mut header(busybox.len(), 0o755), "bin/busybox", busybox.as_slice())
        .unwrap();
    for name in ["sh", "sleep", "test", "echo", "cat", "true", "id"] {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        out.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    out.into_inner().unwrap()
}

fn header(size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(size).unwrap());
    header.set_mode(mode);
    header
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}
