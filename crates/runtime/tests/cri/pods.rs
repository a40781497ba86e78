//! What the containers of a pod share, and what keeps them in bounds.

use crate::bed::{Bed, shell};
use cri::v1::*;

fn resources(config: &mut ContainerConfig, resources: LinuxContainerResources) {
    config.linux = Some(LinuxContainerConfig {
        resources: Some(resources),
        security_context: None,
    });
}

fn security(config: &mut ContainerConfig, security: LinuxContainerSecurityContext) {
    config.linux = Some(LinuxContainerConfig {
        resources: None,
        security_context: Some(security),
    });
}

#[tokio::test]
async fn pods_reach_each_other_and_the_host() {
    let mut bed = Bed::new(7).await;
    let (one, two) = (bed.sandbox("one").await, bed.sandbox("two").await);
    let (first, second) = (bed.address(&one).await, bed.address(&two).await);
    assert_eq!((first.as_str(), second.as_str()), ("10.211.7.2", "10.211.7.3"));
    let server = bed
        .run(&one, shell("server", "while :; do echo hello | nc -l -p 80; done"))
        .await;
    // Between two rounds of its loop the server may take a connection and say nothing, so clients ask until it does.
    // A container of the same pod reaches it by loopback.
    let near = bed
        .run(
            &one,
            shell(
                "near",
                "until nc 127.0.0.1 80 </dev/null | tail -n 1; do sleep 0.1; done; hostname; ls /dev/shm",
            ),
        )
        .await;
    assert_eq!(bed.ended(&near).await.exit_code, 0);
    assert!(bed.output("one", "near").contains("stdout F one\n"));
    let far = bed
        .run(
            &two,
            shell(
                "far",
                &format!("until nc -w 5 {first} 80 </dev/null | grep hello; do sleep 0.1; done"),
            ),
        )
        .await;
    assert_eq!(bed.ended(&far).await.exit_code, 0, "{}", bed.output("two", "far"));
    assert!(bed.output("two", "far").contains("hello"));
    let reached = std::process::Command::new("timeout")
        .args([
            "5",
            "bash",
            "-c",
            &format!("until (exec 3<>/dev/tcp/{first}/80 && cat <&3) | grep hello; do sleep 0.1; done"),
        ])
        .output()
        .expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&reached.stdout), "hello\n");
    bed.stop(&server, 0).await;
    assert_eq!(bed.status(&server).await.exit_code, 137);
    // An address is not used again soon.
    bed.runtime
        .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: two })
        .await
        .expect("removed");
    let three = bed.sandbox("three").await;
    assert_eq!(bed.address(&three).await, "10.211.7.4");
}

#[tokio::test]
async fn memory_has_a_limit() {
    let mut bed = Bed::new(8).await;
    let sandbox = bed.sandbox("web-0").await;
    let mut config = shell("main", "echo start; tail /dev/zero");
    resources(
        &mut config,
        LinuxContainerResources {
            memory_limit_in_bytes: 16 << 20,
            oom_score_adj: -900,
            cpu_shares: 100,
            ..LinuxContainerResources::default()
        },
    );
    let id = bed.run(&sandbox, config).await;
    let status = bed.ended(&id).await;
    assert_eq!(status.reason, "OOMKilled", "{status:?} {}", bed.output("web-0", "main"));
    assert_eq!(status.exit_code, 137);
    let id = bed.run(&sandbox, shell("measured", "while :; do :; done")).await;
    let limits = LinuxContainerResources {
        memory_limit_in_bytes: 32 << 20,
        cpu_quota: 20_000,
        cpu_period: 100_000,
        ..LinuxContainerResources::default()
    };
    let update = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(limits),
        ..UpdateContainerResourcesRequest::default()
    };
    bed.runtime.update_container_resources(update).await.expect("updated");
    let stats = bed
        .runtime
        .container_stats(ContainerStatsRequest {
            container_id: id.clone(),
        })
        .await
        .expect("stats")
        .into_inner()
        .stats
        .expect("stats");
    let memory = stats.memory.expect("memory");
    let total = memory.available_bytes.expect("a limit").value + memory.working_set_bytes.expect("a number").value;
    assert_eq!(total, 32 << 20);
    assert!(stats.cpu.expect("cpu").usage_core_nano_seconds.expect("a number").value > 0);
    bed.stop(&id, 0).await;
}

#[tokio::test]
async fn processes_have_the_rights_they_should() {
    let mut bed = Bed::new(9).await;
    let sandbox = bed.sandbox("web-0").await;
    let mut config = shell("user", "id; cat /proc/self/status; touch /no && echo written; echo $$");
    security(
        &mut config,
        LinuxContainerSecurityContext {
            run_as_username: "app".into(),
            readonly_rootfs: true,
            no_new_privs: true,
            capabilities: Some(Capability {
                drop_capabilities: vec!["ALL".into()],
                ..Capability::default()
            }),
            supplemental_groups: vec![3000],
            ..LinuxContainerSecurityContext::default()
        },
    );
    config.working_dir = "/made/for/it".into();
    let id = bed.run(&sandbox, config).await;
    bed.ended(&id).await;
    let output = bed.output("web-0", "user");
    for line in [
        "uid=1000(app) gid=1000(app)",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "stdout F 1\n",
        "2000(more)",
        "3000",
    ] {
        assert!(output.contains(line), "{line:?} is not in {output}");
    }
    assert!(!output.contains("written"));
    let mut config = shell(
        "privileged",
        "cat /proc/self/status; touch /proc/sys/x; ls /dev; ls /sys/fs/cgroup",
    );
    security(
        &mut config,
        LinuxContainerSecurityContext {
            privileged: true,
            ..LinuxContainerSecurityContext::default()
        },
    );
    let id = bed.run(&sandbox, config).await;
    bed.ended(&id).await;
    let output = bed.output("web-0", "privileged");
    assert!(!output.contains("CapEff:\t00000000a8"), "{output}");
    let missing = ContainerConfig {
        image: Some(ImageSpec {
            image: "nowhere".into(),
            ..ImageSpec::default()
        }),
        ..shell("missing", "")
    };
    assert_eq!(
        bed.try_create(&sandbox, missing).await.expect_err("no image").code(),
        tonic::Code::NotFound
    );
}

#[tokio::test]
async fn a_pod_may_use_the_hosts_network_and_share_processes() {
    let mut bed = Bed::new(10).await;
    let mut config = bed.sandbox_config("host");
    let options = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Pod.into(),
        ..NamespaceOption::default()
    };
    let security = LinuxSandboxSecurityContext {
        namespace_options: Some(options.clone()),
        ..LinuxSandboxSecurityContext::default()
    };
    config.linux = Some(LinuxPodSandboxConfig {
        security_context: Some(security),
        ..LinuxPodSandboxConfig::default()
    });
    let request = RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    let sandbox = bed
        .runtime
        .run_pod_sandbox(request)
        .await
        .expect("made")
        .into_inner()
        .pod_sandbox_id;
    assert_eq!(bed.address(&sandbox).await, "");
    let with = |mut config: ContainerConfig| {
        let security = LinuxContainerSecurityContext {
            namespace_options: Some(options.clone()),
            ..LinuxContainerSecurityContext::default()
        };
        config.linux = Some(LinuxContainerConfig {
            resources: None,
            security_context: Some(security),
        });
        config
    };
    let sleeper = bed.run(&sandbox, with(shell("sleeper", "exec sleep 4242"))).await;
    let seer = bed
        .run(
            &sandbox,
            with(shell(
                "seer",
                "ls /sys/class/net; until cat /proc/[0-9]*/cmdline | grep -q 4242; do sleep 0.05; done; echo seen",
            )),
        )
        .await;
    assert_eq!(bed.ended(&seer).await.exit_code, 0);
    let output = bed.output("host", "seer");
    assert!(
        output.contains("stdout F sft10\n") && output.contains("seen"),
        "{output}"
    );
    bed.stop(&sleeper, 0).await;
    bed.runtime
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: sandbox.clone(),
        })
        .await
        .expect("stopped");
    bed.runtime
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: sandbox,
        })
        .await
        .expect("stopped again");
}

#[tokio::test]
async fn volumes_are_mounted_and_logs_rotated() {
    let mut bed = Bed::new(11).await;
    let sandbox = bed.sandbox("web-0").await;
    let volume = bed.folder.path().join("volume");
    std::fs::create_dir(&volume).expect("made");
    std::fs::write(volume.join("page"), "one\n").expect("written");
    let mut config = shell(
        "main",
        "cat /data/page; echo two > /data/new; echo no > /ro/new; while [ ! -e /data/go ]; do sleep 0.02; done; echo after",
    );
    let mount = |container_path: &str, readonly: bool| Mount {
        container_path: container_path.into(),
        host_path: volume.display().to_string(),
        readonly,
        ..Mount::default()
    };
    config.mounts = vec![mount("/data", false), mount("/ro", true)];
    let id = bed.run(&sandbox, config).await;
    while !volume.join("new").exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(std::fs::read_to_string(volume.join("new")).expect("read"), "two\n");
    let log = bed.folder.path().join("logs/web-0/main.log");
    while !bed.output("web-0", "main").contains("Read-only file system") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    std::fs::rename(&log, log.with_extension("old")).expect("rotated");
    bed.runtime
        .reopen_container_log(ReopenContainerLogRequest {
            container_id: id.clone(),
        })
        .await
        .expect("reopened");
    std::fs::write(volume.join("go"), "").expect("written");
    bed.ended(&id).await;
    assert_eq!(bed.output("web-0", "main"), "stdout F after\n");
}

/// Reads what a port of this machine says, asking until it says something.
fn ask(address: &str, port: u16) -> String {
    let script =
        format!("until (exec 3<>/dev/tcp/{address}/{port} && cat <&3) 2>/dev/null | grep hello; do sleep 0.1; done");
    let asked = std::process::Command::new("timeout")
        .args(["10", "bash", "-c", &script])
        .output();
    String::from_utf8_lossy(&asked.expect("bash runs").stdout).into_owned()
}

#[tokio::test]
async fn ports_of_the_node_lead_to_pods() {
    let mut bed = Bed::new(21).await;
    let mapping = |host_ip: &str, host_port: i32| PortMapping {
        protocol: Protocol::Tcp.into(),
        container_port: 80,
        host_port,
        host_ip: host_ip.into(),
    };
    let mut config = bed.sandbox_config("web-0");
    config.port_mappings = vec![mapping("", 18_321), mapping("127.0.0.1", 18_322)];
    let request = RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    let sandbox = bed
        .runtime
        .run_pod_sandbox(request)
        .await
        .expect("made")
        .into_inner()
        .pod_sandbox_id;
    let server = shell("server", "while :; do echo hello | nc -l -p 80; done");
    bed.run(&sandbox, server).await;
    assert_eq!(ask("127.0.0.1", 18_321), "hello\n");
    assert_eq!(ask("127.0.0.1", 18_322), "hello\n");
    // The gateway is an address of this machine, too; the second port is for another one.
    assert_eq!(ask("10.211.21.1", 18_321), "hello\n");
    // From another pod and from itself, by an address of the node.
    let other = bed.sandbox("other").await;
    for (pod, sandbox) in [("other", &other), ("web-0", &sandbox)] {
        let script = "until nc -w 5 10.211.21.1 18321 </dev/null | grep hello; do sleep 0.1; done; nc -w 2 10.211.21.1 18322 </dev/null";
        let client = bed.run(sandbox, shell("client", script)).await;
        assert_ne!(
            bed.ended(&client).await.exit_code,
            0,
            "18322 is open on another address"
        );
        assert!(bed.output(pod, "client").contains("hello"));
    }
    // A server that starts anew opens them again, and nothing is left of those of a stopped pod.
    bed.kill();
    bed.start().await;
    assert_eq!(ask("127.0.0.1", 18_321), "hello\n");
    bed.runtime
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: sandbox,
        })
        .await
        .expect("stopped");
    let rules = std::process::Command::new("nft")
        .args(["list", "table", "ip", "sft21"])
        .output();
    let rules = String::from_utf8_lossy(&rules.expect("nft runs").stdout).into_owned();
    assert!(rules.contains("map ports") && !rules.contains("1832"), "{rules}");
}

#[tokio::test]
async fn seccomp_profiles_apply() {
    use cri::v1::security_profile::ProfileType;
    let mut bed = Bed::new(22).await;
    let sandbox = bed.sandbox("web-0").await;
    let profile = bed.folder.path().join("no-chmod.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}"#;
    std::fs::write(&profile, text).expect("written");
    let with = |name: &str, script: &str, type_: ProfileType, no_new_privs: bool, privileged: bool| {
        let mut config = shell(name, script);
        let context = LinuxContainerSecurityContext {
            seccomp: Some(SecurityProfile {
                profile_type: type_.into(),
                localhost_ref: profile.display().to_string(),
            }),
            no_new_privs,
            privileged,
            ..LinuxContainerSecurityContext::default()
        };
        security(&mut config, context);
        config
    };
    // 2: a filter is in force. What the default refuses is refused though the capability is there.
    let shown = "grep Seccomp: /proc/self/status; touch /tmp/a; chmod 600 /tmp/a && echo changed";
    for (name, type_, no_new_privs, privileged, expected) in [
        ("default", ProfileType::RuntimeDefault, false, false, ["2", "changed"]),
        ("careful", ProfileType::RuntimeDefault, true, false, ["2", "changed"]),
        ("free", ProfileType::Unconfined, false, false, ["0", "changed"]),
        ("privileged", ProfileType::RuntimeDefault, false, true, ["0", "changed"]),
        ("own", ProfileType::Localhost, false, false, ["2", "not supported"]),
    ] {
        let id = bed
            .run(&sandbox, with(name, shown, type_, no_new_privs, privileged))
            .await;
        bed.ended(&id).await;
        let output = bed.output("web-0", name);
        assert!(
            output.contains(&format!("Seccomp:\t{}\n", expected[0])),
            "{name}: {output}"
        );
        assert!(output.to_lowercase().contains(expected[1]), "{name}: {output}");
    }
    // Those who join a container are confined as it is.
    let id = bed
        .run(
            &sandbox,
            with("long", "sleep 1000", ProfileType::RuntimeDefault, false, false),
        )
        .await;
    let (out, _, _) = bed
        .exec(&id, &["/bin/sh", "-c", "grep Seccomp: /proc/self/status"])
        .await
        .expect("run");
    assert_eq!(out, "Seccomp:\t2\n");
    std::fs::remove_file(&profile).expect("removed");
    let missing = with("missing", "true", ProfileType::Localhost, false, false);
    let refused = bed.try_create(&sandbox, missing).await.expect_err("refused");
    assert!(refused.message().contains("cannot load seccomp profile"), "{refused}");
}

#[tokio::test]
async fn a_read_only_mount_may_be_so_all_the_way_down() {
    let mut bed = Bed::new(23).await;
    let sandbox = bed.sandbox("web-0").await;
    let outer = bed.folder.path().join("outer");
    std::fs::create_dir_all(outer.join("inner")).expect("made");
    let tmpfs = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(outer.join("inner"))
        .status();
    assert!(tmpfs.expect("mount runs").success());
    let mount = |recursive_read_only| Mount {
        container_path: "/data".into(),
        host_path: outer.display().to_string(),
        readonly: true,
        recursive_read_only,
        ..Mount::default()
    };
    for (name, recursive, code) in [("plain", false, 0), ("deep", true, 1)] {
        let mut config = shell(name, "touch /data/file && exit 7; touch /data/inner/file");
        config.mounts = vec![mount(recursive)];
        let id = bed.run(&sandbox, config).await;
        assert_eq!(
            bed.ended(&id).await.exit_code,
            code,
            "{name}: {}",
            bed.output("web-0", name)
        );
    }
    let gone = std::process::Command::new("umount")
        .arg("-l")
        .arg(outer.join("inner"))
        .status();
    assert!(gone.expect("umount runs").success());
}

#[tokio::test]
async fn pods_of_two_families_reach_each_other_and_are_reached() {
    let mut bed = Bed::dual(31).await;
    let mut config = bed.sandbox_config("web-0");
    let mapping = |host_ip: &str, host_port: i32| PortMapping {
        protocol: Protocol::Tcp.into(),
        container_port: 80,
        host_port,
        host_ip: host_ip.into(),
    };
    config.port_mappings = vec![mapping("", 18_331), mapping("fd00:211:31::1", 18_332)];
    let request = RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: String::new(),
    };
    let made = bed.runtime.run_pod_sandbox(request).await.expect("made");
    let sandbox = made.into_inner().pod_sandbox_id;
    let server = shell("server", "while :; do echo hello | nc -l -p 80; done");
    bed.run(&sandbox, server).await;
    let (four, six) = ("10.211.31.1", "fd00:211:31::1");
    for host in ["127.0.0.1", four, six] {
        assert_eq!(ask(host, 18_331), "hello\n", "{host}");
    }
    assert_eq!(ask(six, 18_332), "hello\n");
    let known = addresses(&mut bed, &sandbox).await;
    assert_eq!(known, ["10.211.31.2", "fd00:211:31::2"]);
    // From another pod, by the pod's own addresses and by those of the node, and from the pod to itself.
    let other = bed.sandbox("other").await;
    assert_eq!(addresses(&mut bed, &other).await, ["10.211.31.3", "fd00:211:31::3"]);
    let asks =
        |host: &str, port: u16| format!("until nc -w 5 {host} {port} </dev/null | grep hello; do sleep 0.1; done");
    let all = [
        (known[0].as_str(), 80),
        (known[1].as_str(), 80),
        (four, 18_331),
        (six, 18_331),
    ];
    let script = all.map(|(host, port)| asks(host, port)).join(" && ");
    for sandbox in [&other, &sandbox] {
        let client = bed.run(sandbox, shell("client", &script)).await;
        assert_eq!(bed.ended(&client).await.exit_code, 0);
    }
    // Nobody else's word on routes is taken, and addresses are used at once.
    let settings = "cd /proc/sys/net/ipv6/conf/eth0 && cat accept_ra accept_dad accept_redirects";
    let client = bed.run(&other, shell("settings", settings)).await;
    assert_eq!(bed.ended(&client).await.exit_code, 0);
    assert_eq!(bed.output("other", "settings"), "stdout F 0\n".repeat(3));
    // A server that starts anew knows all addresses that are in use.
    bed.kill();
    bed.start().await;
    assert_eq!(addresses(&mut bed, &sandbox).await, known);
    assert_eq!(ask(six, 18_331), "hello\n");
    let third = bed.sandbox("third").await;
    assert_eq!(addresses(&mut bed, &third).await, ["10.211.31.4", "fd00:211:31::4"]);
}

async fn addresses(bed: &mut Bed, sandbox: &str) -> Vec<String> {
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.to_owned(),
        verbose: false,
    };
    let status = bed.runtime.pod_sandbox_status(request).await.expect("a status");
    let network = status.into_inner().status.and_then(|status| status.network);
    let network = network.expect("a network");
    let more = network.additional_ips.into_iter().map(|ip| ip.ip);
    std::iter::once(network.ip).chain(more).collect()
}
