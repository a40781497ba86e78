//! The server is killed; nothing else is.

use crate::bed::{Bed, shell};
use cri::v1::*;

#[tokio::test]
async fn containers_outlive_the_server() {
    let mut bed = Bed::new(3).await;
    let sandbox = bed.sandbox("web-0").await;
    let address = bed.address(&sandbox).await;
    let script = "i=0; while :; do echo $i; i=$((i+1)); [ -e /tmp/end ] && exit 42; sleep 0.05; done";
    let running = bed.run(&sandbox, shell("running", script)).await;
    let waiting = bed
        .try_create(&sandbox, shell("waiting", "echo late"))
        .await
        .expect("created");
    bed.kill();
    bed.start().await;
    let status = bed.status(&running).await;
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    assert_eq!(bed.address(&sandbox).await, address);
    // The name still leads to the same sandbox.
    assert_eq!(bed.sandbox("web-0").await, sandbox);
    bed.exec(&running, &["touch", "/tmp/end"]).await.expect("ran");
    assert_eq!(bed.ended(&running).await.exit_code, 42);
    // What was written while nobody served is in the log, in order and without a gap.
    let output = bed.output("web-0", "running");
    let numbers: Vec<usize> = output
        .lines()
        .filter_map(|line| line.strip_prefix("stdout F ")?.parse().ok())
        .collect();
    assert!(
        numbers.len() > 2 && numbers.iter().enumerate().all(|(at, number)| at == *number),
        "{output}"
    );
    bed.runtime
        .start_container(StartContainerRequest {
            container_id: waiting.clone(),
        })
        .await
        .expect("started");
    assert_eq!(bed.ended(&waiting).await.reason, "Completed");
}

#[tokio::test]
async fn an_exit_while_nobody_serves_is_not_lost() {
    let mut bed = Bed::new(4).await;
    let sandbox = bed.sandbox("web-0").await;
    let gate = bed.folder.path().join("gate");
    std::fs::create_dir(&gate).expect("made");
    let mut config = shell(
        "main",
        "while [ ! -e /gate/end ]; do sleep 0.02; done; touch /gate/ended; exit 9",
    );
    config.mounts = vec![Mount {
        container_path: "/gate".into(),
        host_path: gate.display().to_string(),
        ..Mount::default()
    }];
    let id = bed.run(&sandbox, config).await;
    bed.kill();
    std::fs::write(gate.join("end"), "").expect("written");
    // The record is there before anybody asks.
    let record = bed.root().join("containers").join(&id).join("exit.json");
    while !record.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    bed.start().await;
    let status = bed.status(&id).await;
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 9));
    assert!(status.finished_at >= status.started_at);
}

#[tokio::test]
async fn a_container_without_its_monitor_is_ended() {
    let mut bed = Bed::new(5).await;
    let sandbox = bed.sandbox("web-0").await;
    let id = bed.run(&sandbox, shell("main", "sleep 1000")).await;
    let record =
        std::fs::read_to_string(bed.root().join("containers").join(&id).join("monitor.pid")).expect("a record");
    let pid = serde_json::from_str::<serde_json::Value>(&record).expect("json")["pid"]
        .as_i64()
        .expect("a number");
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(killed.success());
    let status = bed.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    assert!(status.message.contains("owned the container"), "{}", status.message);
}

#[tokio::test]
async fn what_was_being_made_is_cleared_away() {
    let mut bed = Bed::new(6).await;
    let sandbox = bed.sandbox("web-0").await;
    // Killed at many moments of making things.
    for round in 0..6_u64 {
        let config = Some(bed.sandbox_config(&format!("half-{round}")));
        let mut runtime = bed.runtime.clone();
        let create = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(shell(&format!("half-{round}"), "sleep 1000")),
            sandbox_config: None,
        };
        let making = tokio::spawn(async move {
            drop(
                runtime
                    .run_pod_sandbox(RunPodSandboxRequest {
                        config,
                        runtime_handler: String::new(),
                    })
                    .await,
            );
            drop(runtime.create_container(create).await);
        });
        tokio::time::sleep(std::time::Duration::from_millis(7 * round)).await;
        bed.kill();
        making.abort();
        bed.start().await;
    }
    let sandboxes = bed
        .runtime
        .list_pod_sandbox(ListPodSandboxRequest::default())
        .await
        .expect("listed")
        .into_inner()
        .items;
    let containers = bed
        .runtime
        .list_containers(ListContainersRequest::default())
        .await
        .expect("listed")
        .into_inner()
        .containers;
    let folders = |name: &str| {
        std::fs::read_dir(bed.root().join(name))
            .map(Iterator::count)
            .unwrap_or(0)
    };
    assert_eq!(folders("sandboxes"), sandboxes.len());
    assert_eq!(folders("containers"), containers.len());
    assert!(
        sandboxes
            .iter()
            .all(|sandbox| sandbox.state() == PodSandboxState::SandboxReady)
    );
    // And everything still works.
    let id = bed.run(&sandbox, shell("after", "exit 0")).await;
    assert_eq!(bed.ended(&id).await.reason, "Completed");
}
