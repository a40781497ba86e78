//! CreateContainer and StartContainer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::v1::{ContainerConfig, ContainerEventType, ContainerState, NamespaceMode, Signal, SupplementalGroupsPolicy};
use prost::Message;
use tonic::Status;

use super::{CONFIG, Container, RECORD, Record, name};
use crate::cgroup::Cgroup;
use crate::disk;
use crate::failure::{blocking, chain, internal};
use crate::images::Image;
use crate::monitor::plan::{CREATED, PLAN, Plan, RuntimeCommand, now};
use crate::monitor::wire::Kind;
use crate::monitor_client::Connection;
use crate::process::Process;
use crate::rootfs;
use crate::sandbox::{Phase, Sandbox};
use crate::spec::{self, PidNamespace};
use crate::state::{Runtime, new_id};
use crate::user::{self, User};
use crate::within::Root;

impl Runtime {
    /// Makes a container that waits to be started; the same one again if it exists already and still waits.
    pub(crate) async fn create_container(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<String, Status> {
        let name = name(&sandbox.id, &config);
        let _reserved = self.reserve(name.clone())?;
        if let Some(known) = self
            .containers_of(&sandbox.id)
            .into_iter()
            .find(|container| container.name() == name)
        {
            // The caller may have lost the answer of its first call.
            if known.state() == ContainerState::ContainerCreated && known.config == config {
                return Ok(known.id.clone());
            }
            return Err(Status::already_exists(format!("{name} exists already as {}", known.id)));
        }
        let _ready = sandbox.changing.read().await;
        if sandbox.record().phase != Phase::Ready {
            return Err(Status::failed_precondition(format!(
                "pod sandbox {} is not ready",
                sandbox.id
            )));
        }
        let image = self.image_of(&config)?;
        let id = new_id();
        let made = self.make_container(&id, sandbox, config, &image).await;
        if made.is_err()
            && let Err(error) = self.undo_container(&id, &self.cgroup_of(sandbox, &id)).await
        {
            tracing::warn!(container = id, %error, "cannot clean up a container that failed");
        }
        let container = Arc::new(made?);
        self.containers
            .lock()
            .expect("no holder panics")
            .insert(id.clone(), Arc::clone(&container));
        self.watch(&container);
        self.announce(&container, ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    fn image_of(&self, config: &ContainerConfig) -> Result<Image, Status> {
        let name = config.image.as_ref().map_or("", |image| image.image.as_str());
        let found = self
            .images
            .find(name)
            .map_err(|error| Status::invalid_argument(chain(&error)))?;
        found.ok_or_else(|| Status::not_found(format!("image {name:?} is not present: pull it first")))
    }

    fn cgroup_of(&self, sandbox: &Sandbox, id: &str) -> Cgroup {
        let parent = sandbox.cgroup_parent(&self.config.cgroup_parent).trim_end_matches('/');
        Cgroup::new(&format!("{parent}/{id}"))
    }

    async fn make_container(
        &self,
        id: &str,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
        image: &Image,
    ) -> Result<Container, Status> {
        let folder = self.container_folder(id);
        let cgroup = self.cgroup_of(sandbox, id);
        let user = self.prepare_root(&folder, &config, image).await?;
        let pid = self.pid_namespace(sandbox, &config)?;
        let namespaces = sandbox.namespaces(&self.namespaces_folder(&sandbox.id), pid);
        let own_hostname = sandbox.own_hostname();
        let host = || {
            nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let seccomp = own_profile(&config).map_err(Status::invalid_argument)?;
        let spec = spec::generate(&spec::Input {
            config: &config,
            image: &image.config,
            hostname: &own_hostname.unwrap_or_else(host),
            user: &user,
            namespaces: &namespaces,
            files: &sandbox.files(),
            cgroup: &cgroup.path(),
            machine: &self.machine,
            seccomp: seccomp.as_ref(),
        });
        let spec = spec.map_err(Status::invalid_argument)?;
        let record = Record {
            sandbox_id: sandbox.id.clone(),
            created_at: now(),
            image_id: image.id.clone(),
            image_ref: image.digests.first().unwrap_or(&image.id).clone(),
            layers: image.layers.clone(),
            cgroup: cgroup.path(),
            log_path: log_path(sandbox, &config),
            stop_signal: stop_signal(&config, image),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            config_size_bytes: config.encoded_len(),
        };
        let runtime = self.oci_runtime(&sandbox.record().runtime_handler)?.clone();
        let plan = self.plan(runtime, (id, &folder), &config, &record, &cgroup);
        let written = folder.clone();
        let pb = config.encode_to_vec();
        blocking(move || {
            make_mount_sources(&spec).map_err(Status::invalid_argument)?;
            disk::replace(&written.join(CONFIG), &pb).map_err(internal("cannot write the container"))?;
            disk::replace_json(&written.join("config.json"), &spec).map_err(internal("cannot write the container"))?;
            disk::replace_json(&written.join(PLAN), &plan).map_err(internal("cannot write the container"))
        })
        .await?;
        let created = self.driver.monitor("container", &folder).await;
        created.map_err(|reason| Status::unknown(format!("failed to create container: {reason}")))?;
        disk::replace_json(&folder.join(RECORD), &record).map_err(internal("cannot write the container"))?;
        Ok(Container::new(id.to_owned(), folder, config, record))
    }

    /// Mounts the root filesystem, and finds the user and makes the working folder in it.
    async fn prepare_root(&self, folder: &Path, config: &ContainerConfig, image: &Image) -> Result<User, Status> {
        let (layers, names) = (self.images.layers(), image.layers.clone());
        let cwd = PathBuf::from(spec::working_dir(config, &image.config));
        let security = spec::security(config);
        let image_user = image
            .config
            .config
            .as_ref()
            .map_or(String::new(), |defaults| defaults.user.clone());
        let folder = folder.to_owned();
        blocking(move || {
            rootfs::mount_layers(&layers, &names, &folder).map_err(internal("cannot mount the root filesystem"))?;
            let root = Root::open(&rootfs::path(&folder)).map_err(internal("cannot open the root filesystem"))?;
            // runc makes a missing working folder, so images and pods count on it.
            root.make_folder(&cwd, &|_, _| Ok(()))
                .map_err(internal(format!("cannot make the working folder {}", cwd.display())))?;
            let wanted = user::Wanted {
                uid: security.run_as_user.as_ref().map(|uid| uid.value),
                username: &security.run_as_username,
                gid: security.run_as_group.as_ref().map(|gid| gid.value),
                image: &image_user,
                supplemental: &security.supplemental_groups,
                strict: security.supplemental_groups_policy() == SupplementalGroupsPolicy::Strict,
            };
            user::resolve(&root, &wanted).map_err(Status::invalid_argument)
        })
        .await
    }

    /// The OCI runtime that a handler means.
    pub(crate) fn oci_runtime(&self, handler: &str) -> Result<&RuntimeCommand, Status> {
        let none = || Status::invalid_argument(format!("no runtime for {handler:?} is configured"));
        self.driver.runtime(handler).ok_or_else(none)
    }

    fn pid_namespace(&self, sandbox: &Sandbox, config: &ContainerConfig) -> Result<PidNamespace, Status> {
        let options = spec::security(config)
            .namespace_options
            .unwrap_or_else(|| sandbox.options());
        let of = |process: Option<Process>| {
            let process = process.filter(Process::is_alive);
            let process = process.ok_or_else(|| {
                Status::failed_precondition("the process whose PID namespace is to be shared has ended")
            })?;
            Ok(PidNamespace::Of(PathBuf::from(format!("/proc/{}/ns/pid", process.pid))))
        };
        match options.pid() {
            NamespaceMode::Container => Ok(PidNamespace::Own),
            NamespaceMode::Node => Ok(PidNamespace::Host),
            NamespaceMode::Target => of(self
                .container(&options.target_id)?
                .process()
                .map_err(internal("cannot read the target container"))?),
            // A sandbox made without a shared namespace has none to join.
            NamespaceMode::Pod if sandbox.options().pid() != NamespaceMode::Pod => Ok(PidNamespace::Own),
            NamespaceMode::Pod => {
                let pause = disk::read_json(&self.namespaces_folder(&sandbox.id).join(CREATED));
                of(pause.map_err(internal("cannot read the sandbox"))?)
            }
        }
    }

    fn plan(
        &self,
        runtime: RuntimeCommand,
        (id, folder): (&str, &Path),
        config: &ContainerConfig,
        record: &Record,
        cgroup: &Cgroup,
    ) -> Plan {
        Plan {
            runtime,
            id: id.to_owned(),
            bundle: folder.to_owned(),
            log: Some(record.log_path.clone()).filter(|path| !path.as_os_str().is_empty()),
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            // runc has no way around the limit of 107 bytes for a socket's path.
            console_socket: config.tty.then(|| self.config.state.join("tty").join(&id[..12])),
            oom_files: cgroup.oom_files(),
        }
    }

    /// Lets a created container run.
    pub(crate) async fn start_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Status> {
        let _changing = container.changing.lock().await;
        if container.state() != ContainerState::ContainerCreated {
            return Err(Status::failed_precondition(format!(
                "container {} is not waiting to be started",
                container.id
            )));
        }
        let lost = |error| {
            Status::internal(format!(
                "cannot reach the monitor of container {}: {error}",
                container.id
            ))
        };
        let mut monitor = Connection::open(&container.folder).await.map_err(lost)?;
        let started = monitor.request(Kind::Start, &[]).await;
        started.map_err(|reason| Status::unknown(format!("failed to start container {}: {reason}", container.id)))?;
        container.refresh().map_err(internal("cannot read the container"))?;
        self.announce(container, ContainerEventType::ContainerStartedEvent);
        Ok(())
    }
}

/// The seccomp profile that a container brings, in the words of the OCI.
fn own_profile(config: &ContainerConfig) -> Result<Option<serde_json::Value>, String> {
    let security = spec::security(config);
    let Some(path) = spec::seccomp_profile(&security) else {
        return Ok(None);
    };
    let failed = |error: String| format!("cannot load seccomp profile {path:?}: {error}");
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let profile: serde_json::Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if profile["defaultAction"].is_string() {
        Ok(Some(profile))
    } else {
        Err(failed("it has no defaultAction".to_owned()))
    }
}

fn log_path(sandbox: &Sandbox, config: &ContainerConfig) -> PathBuf {
    if config.log_path.is_empty() || sandbox.config.log_directory.is_empty() {
        return PathBuf::new();
    }
    Path::new(&sandbox.config.log_directory).join(&config.log_path)
}

/// The pod's wish, the image's, or SIGTERM.
fn stop_signal(config: &ContainerConfig, image: &Image) -> String {
    if config.stop_signal() != Signal::RuntimeDefault {
        let name = config.stop_signal().as_str_name();
        // "SIGNAL_SIGRTMINPLUS3" is what people call SIGRTMIN+3.
        return name
            .trim_start_matches("SIGNAL_")
            .replace("PLUS", "+")
            .replace("RTMAXMINUS", "RTMAX-");
    }
    let image = image
        .config
        .config
        .as_ref()
        .map_or("", |defaults| defaults.stop_signal.as_str());
    if image.is_empty() {
        "SIGTERM".to_owned()
    } else {
        image.to_owned()
    }
}

/// Kubernetes: a host path that is not there becomes a folder.
fn make_mount_sources(spec: &serde_json::Value) -> Result<(), String> {
    let mounts = spec["mounts"].as_array().into_iter().flatten();
    for mount in mounts.filter(|mount| mount["type"] == "bind") {
        let source = Path::new(mount["source"].as_str().unwrap_or_default());
        if !source.is_absolute() {
            return Err(format!(
                "the host path {:?} of a mount is not absolute",
                source.display()
            ));
        }
        if !source.exists() {
            std::fs::create_dir_all(source)
                .map_err(|error| format!("cannot make the host path {}: {error}", source.display()))?;
        }
    }
    Ok(())
}
