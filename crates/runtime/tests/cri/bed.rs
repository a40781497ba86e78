//! A runtime of one's own for a test: folders, bridge, addresses, a server process, an image.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::*;
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

/// The image that every bed has.
pub(crate) const IMAGE: &str = "docker.io/library/busybox:test";

/// A runtime under test.
pub(crate) struct Bed {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtime: RuntimeServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
    args: Vec<String>,
    state: PathBuf,
    server: Option<Child>,
}

impl Bed {
    /// Starts a runtime; `number` must be unique among the tests, since bridges and addresses belong to the machine.
    pub(crate) async fn new(number: u8) -> Self {
        // All tests can be run on another OCI runtime.
        let oci_runtime = std::env::var("STEADFAST_TEST_OCI_RUNTIME").ok();
        Self::with(number, oci_runtime.as_deref()).await
    }

    /// The same with pods that have addresses of both families.
    pub(crate) async fn dual(number: u8) -> Self {
        let ranges = format!("10.211.{number}.0/24,fd00:211:{number}::/64");
        Self::of(
            number,
            ranges,
            std::env::var("STEADFAST_TEST_OCI_RUNTIME").ok().as_deref(),
        )
        .await
    }

    pub(crate) async fn with(number: u8, oci_runtime: Option<&str>) -> Self {
        Self::of(number, format!("10.211.{number}.0/24"), oci_runtime).await
    }

    async fn of(number: u8, ranges: String, oci_runtime: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("sft{number}");
        let state = PathBuf::from("/run").join(format!("{name}-{}", std::process::id()));
        let mut args = vec![
            folder.path().join("root").display().to_string(),
            state.display().to_string(),
            name,
        ];
        args.push(ranges);
        args.extend(oci_runtime.map(str::to_owned));
        // An earlier run that was killed may have left its bridge.
        drop(
            Command::new("ip")
                .args(["link", "delete", &args[2]])
                .stderr(Stdio::null())
                .status(),
        );
        let channel = cri::connect(&state.join("cri.sock").display().to_string()).expect("a channel");
        let runtime = RuntimeServiceClient::new(channel.clone());
        let mut bed = Self {
            folder,
            runtime,
            images: ImageServiceClient::new(channel),
            args,
            state,
            server: None,
        };
        let archive = bed.folder.path().join("busybox.tar");
        std::fs::write(&archive, archive_of_busybox()).expect("an archive");
        let names = runtime::images::load_archive(&bed.folder.path().join("root"), &archive).expect("loaded");
        assert_eq!(names, [IMAGE]);
        bed.start().await;
        bed
    }

    /// Starts the server and waits until it answers.
    pub(crate) async fn start(&mut self) {
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.folder.path().join("server.log"))
            .expect("a log");
        let mut command = Command::new(testbed());
        command
            .arg("serve")
            .args(&self.args)
            .env("TESTBED_HANDLER", "other=/usr/sbin/runc")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.server = Some(command.spawn().expect("the server starts"));
        let begun = Instant::now();
        loop {
            match self.runtime.version(VersionRequest::default()).await {
                Ok(_) => return,
                Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("{error}: {}", self.log()),
                // There is nothing to wait on before the socket exists.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("a server");
        server.kill().expect("killed");
        server.wait().expect("reaped");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn sandbox_config(&self, name: &str) -> PodSandboxConfig {
        let options = NamespaceOption {
            pid: NamespaceMode::Container.into(),
            ..NamespaceOption::default()
        };
        let security = LinuxSandboxSecurityContext {
            namespace_options: Some(options),
            ..LinuxSandboxSecurityContext::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: name.into(),
            log_directory: self.folder.path().join("logs").join(name).display().to_string(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.96.0.10".into()],
                searches: vec!["svc".into()],
                options: vec![],
            }),
            labels: [("app".to_owned(), name.to_owned())].into(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(security),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    pub(crate) async fn sandbox(&mut self, name: &str) -> String {
        let config = Some(self.sandbox_config(name));
        let request = RunPodSandboxRequest {
            config,
            runtime_handler: String::new(),
        };
        self.runtime
            .run_pod_sandbox(request)
            .await
            .unwrap_or_else(|error| panic!("{error}: {}", self.log()))
            .into_inner()
            .pod_sandbox_id
    }

    pub(crate) async fn try_create(&mut self, sandbox: &str, config: ContainerConfig) -> Result<String, tonic::Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    /// Creates and starts a container.
    pub(crate) async fn run(&mut self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self
            .try_create(sandbox, config)
            .await
            .unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        let request = StartContainerRequest {
            container_id: id.clone(),
        };
        self.runtime
            .start_container(request)
            .await
            .unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        id
    }

    pub(crate) async fn status(&mut self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        self.runtime
            .container_status(request)
            .await
            .expect("a status")
            .into_inner()
            .status
            .expect("a status")
    }

    /// Waits until the container has ended.
    pub(crate) async fn ended(&mut self, id: &str) -> ContainerStatus {
        let begun = Instant::now();
        loop {
            let status = self.status(id).await;
            if status.state() == ContainerState::ContainerExited {
                return status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "container {id} does not end: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn exec(&mut self, id: &str, command: &[&str]) -> Result<(String, String, i32), tonic::Status> {
        let cmd = command.iter().map(|word| (*word).to_owned()).collect();
        let answer = self
            .runtime
            .exec_sync(ExecSyncRequest {
                container_id: id.into(),
                cmd,
                timeout: 20,
            })
            .await?
            .into_inner();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ok((text(answer.stdout), text(answer.stderr), answer.exit_code))
    }

    pub(crate) async fn stop(&mut self, id: &str, timeout: i64) {
        self.runtime
            .stop_container(StopContainerRequest {
                container_id: id.into(),
                timeout,
            })
            .await
            .expect("stopped");
    }

    pub(crate) async fn address(&mut self, sandbox: &str) -> String {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.into(),
            verbose: false,
        };
        let status = self
            .runtime
            .pod_sandbox_status(request)
            .await
            .expect("a status")
            .into_inner()
            .status
            .expect("a status");
        status.network.expect("a network").ip
    }

    /// The log of a container, without times.
    pub(crate) fn output(&self, sandbox: &str, name: &str) -> String {
        let path = self
            .folder
            .path()
            .join("logs")
            .join(sandbox)
            .join(format!("{name}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest).to_owned() + "\n")
            .collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.kill();
        }
        let reset = Command::new(testbed())
            .arg("reset")
            .args(&self.args)
            .output()
            .expect("reset runs");
        let said = String::from_utf8_lossy(&reset.stderr).into_owned();
        if std::thread::panicking() {
            eprintln!("--- server log\n{}\n--- reset: {said}", self.log());
            return;
        }
        assert!(reset.status.success(), "reset failed: {said}");
        assert!(!self.state.exists(), "reset leaves {}", self.state.display());
        assert!(
            !Path::new("/sys/class/net").join(&self.args[2]).exists(),
            "reset leaves the bridge"
        );
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        assert!(
            !mounts.contains(&self.folder.path().display().to_string()),
            "reset leaves mounts: {mounts}"
        );
    }
}

/// A shell command in the usual image.
pub(crate) fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: name.into(),
            attempt: 0,
        }),
        image: Some(ImageSpec {
            image: IMAGE.into(),
            ..ImageSpec::default()
        }),
        command: vec!["/bin/sh".into(), "-c".into(), script.into()],
        log_path: format!("{name}.log"),
        ..ContainerConfig::default()
    }
}

/// The example built beside this test.
fn testbed() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let path = test
        .parent()
        .and_then(Path::parent)
        .expect("target/debug")
        .join("examples/testbed");
    assert!(path.exists(), "build it: cargo build -p runtime --example testbed");
    path
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The layer and the configuration of an image with busybox.
pub(crate) fn busybox() -> (Vec<u8>, Vec<u8>) {
    let mut layer = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        match link {
            Some(link) => layer.append_link(&mut header, path, link).expect("added"),
            None => layer.append_data(&mut header, path, content).expect("added"),
        }
    };
    for folder in ["bin/", "etc/", "tmp/", "root/"] {
        add(
            folder,
            tar::EntryType::Directory,
            if folder == "tmp/" { 0o1777 } else { 0o755 },
            &[],
            None,
        );
    }
    let program = std::fs::read("/usr/bin/busybox")
        .or_else(|_| std::fs::read("/bin/busybox"))
        .expect("busybox-static is installed");
    add("bin/busybox", tar::EntryType::Regular, 0o755, &program, None);
    for applet in [
        "sh", "sleep", "cat", "echo", "id", "ip", "wget", "nc", "ls", "hostname", "dd", "tail", "touch", "stty",
        "mkfifo", "grep", "chmod",
    ] {
        add(
            &format!("bin/{applet}"),
            tar::EntryType::Symlink,
            0o777,
            &[],
            Some("busybox"),
        );
    }
    add(
        "etc/passwd",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/tmp:/bin/sh\n",
        None,
    );
    add(
        "etc/group",
        tar::EntryType::Regular,
        0o644,
        b"root:x:0:\napp:x:1000:\nmore:x:2000:app\n",
        None,
    );
    let layer = layer.into_inner().expect("a layer");
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]},
    });
    (layer, config.to_string().into_bytes())
}

/// The same as `docker save` writes it.
fn archive_of_busybox() -> Vec<u8> {
    let (layer, config) = busybox();
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": ["busybox:test"], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in [
        ("config.json", config),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, path, content.as_slice())
            .expect("added");
    }
    let mut plain = archive.into_inner().expect("an archive");
    plain.flush().expect("memory");
    plain
}
