//! Tests of the generated configuration.

use super::*;
use crate::images::ImageConfig;
use cri::v1::{KeyValue, LinuxContainerConfig, Mount, SecurityProfile};

fn image() -> ImageConfig {
    serde_json::from_value(json!({
        "config": {"Entrypoint": ["/entry"], "Cmd": ["default"], "Env": ["A=1", "PATH=/bin"], "WorkingDir": "/srv"},
        "rootfs": {"diff_ids": []},
    }))
    .expect("a configuration")
}

fn spec(config: &ContainerConfig) -> Result<Value, String> {
    let files = SandboxFiles {
        resolv_conf: "/s/resolv.conf".into(),
        hostname: "/s/hostname".into(),
        hosts: "/s/hosts".into(),
        shm: "/s/shm".into(),
    };
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"].map(str::to_owned).to_vec();
    let machine = Machine {
        capabilities,
        oom_score_adj_min: 0,
        ..Machine::default()
    };
    let namespaces = Namespaces {
        network: Some("/n/net".into()),
        ..Namespaces::default()
    };
    generate(&Input {
        config,
        image: &image(),
        hostname: "web-0",
        user: &User {
            uid: 5,
            gid: 6,
            groups: vec![6],
        },
        namespaces: &namespaces,
        files: &files,
        cgroup: "/pod/c",
        machine: &machine,
        seccomp: None,
    })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn commands_replace_as_kubernetes_says() {
    for (command, args, expected) in [
        (&[][..], &[][..], &["/entry", "default"][..]),
        (&[], &["x"], &["/entry", "x"]),
        (&["sh"], &[], &["sh"]),
        (&["sh"], &["-c", "x"], &["sh", "-c", "x"]),
    ] {
        let config = ContainerConfig {
            command: words(command),
            args: words(args),
            ..ContainerConfig::default()
        };
        assert_eq!(spec(&config).expect("a spec")["process"]["args"], json!(expected));
    }
}

#[test]
fn the_pods_environment_wins() {
    let envs = vec![
        KeyValue {
            key: "A".into(),
            value: b"2=3".to_vec(),
        },
        KeyValue {
            key: "B".into(),
            value: Vec::new(),
        },
    ];
    let spec = spec(&ContainerConfig {
        envs,
        tty: true,
        ..ContainerConfig::default()
    })
    .expect("a spec");
    assert_eq!(
        spec["process"]["env"],
        json!(["PATH=/bin", "HOSTNAME=web-0", "TERM=xterm", "A=2=3", "B="])
    );
    assert_eq!(spec["process"]["cwd"], "/srv");
}

#[test]
fn mounts_are_replaced_and_ordered() {
    let mount = |path: &str| Mount {
        container_path: path.into(),
        host_path: "/h".into(),
        readonly: true,
        ..Mount::default()
    };
    let mounts = vec![
        mount("/data/inner"),
        mount("/data/"),
        mount("/etc/hosts"),
        mount("/dev/shm"),
    ];
    let spec = spec(&ContainerConfig {
        mounts,
        ..ContainerConfig::default()
    })
    .expect("a spec");
    let places: Vec<&str> = spec["mounts"]
        .as_array()
        .expect("mounts")
        .iter()
        .filter_map(|mount| mount["destination"].as_str())
        .collect();
    let at = |place: &str| places.iter().position(|other| *other == place).expect(place);
    assert!(at("/data") < at("/data/inner") && at("/dev") < at("/dev/shm"));
    assert_eq!(places.iter().filter(|place| **place == "/etc/hosts").count(), 1);
    assert_eq!(spec["mounts"][at("/etc/hosts")]["source"], "/h");
    assert_eq!(
        spec["mounts"][at("/dev/shm")]["options"],
        json!(["rbind", "rprivate", "ro"])
    );
}

#[test]
fn oom_score_is_clamped_to_what_is_allowed() {
    let resources = LinuxContainerResources {
        oom_score_adj: -997,
        memory_limit_in_bytes: 64,
        ..LinuxContainerResources::default()
    };
    let linux = LinuxContainerConfig {
        resources: Some(resources),
        ..LinuxContainerConfig::default()
    };
    let spec = spec(&ContainerConfig {
        linux: Some(linux),
        ..ContainerConfig::default()
    })
    .expect("a spec");
    assert_eq!(spec["process"]["oomScoreAdj"], 0);
    assert_eq!(spec["linux"]["resources"]["memory"], json!({"limit": 64}));
}

#[test]
fn what_cannot_be_applied_is_refused() {
    let apparmor = Some(SecurityProfile {
        profile_type: ProfileType::Localhost.into(),
        localhost_ref: "p.json".into(),
    });
    let security = LinuxContainerSecurityContext {
        apparmor,
        ..LinuxContainerSecurityContext::default()
    };
    let linux = LinuxContainerConfig {
        security_context: Some(security),
        ..LinuxContainerConfig::default()
    };
    assert!(
        spec(&ContainerConfig {
            linux: Some(linux),
            ..ContainerConfig::default()
        })
        .expect_err("refused")
        .contains("p.json")
    );
    let mounts = vec![Mount {
        container_path: "/a/../b".into(),
        ..Mount::default()
    }];
    assert!(
        spec(&ContainerConfig {
            mounts,
            ..ContainerConfig::default()
        })
        .is_err()
    );
}

#[test]
fn privileged_containers_are_not_masked() {
    let security = LinuxContainerSecurityContext {
        privileged: true,
        ..LinuxContainerSecurityContext::default()
    };
    let linux = LinuxContainerConfig {
        security_context: Some(security),
        ..LinuxContainerConfig::default()
    };
    let privileged = spec(&ContainerConfig {
        linux: Some(linux),
        ..ContainerConfig::default()
    })
    .expect("a spec");
    assert!(privileged["linux"]["maskedPaths"].is_null());
    assert_eq!(
        privileged["process"]["capabilities"]["bounding"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
    let plain = spec(&ContainerConfig::default()).expect("a spec");
    assert_eq!(
        plain["linux"]["maskedPaths"].as_array().map(Vec::len),
        Some(MASKED_PATHS.len())
    );
    assert_eq!(
        plain["process"]["capabilities"]["bounding"].as_array().map(Vec::len),
        Some(2)
    );
}
