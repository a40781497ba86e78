//! One container from its creation to its end.

use crate::bed::{Bed, shell};
use cri::v1::*;

async fn life(mut bed: Bed) {
    let sandbox = bed.sandbox("web-0").await;
    ends_by_itself(&mut bed, &sandbox).await;
    is_stopped(&mut bed, &sandbox).await;
    cannot_start(&mut bed, &sandbox).await;
}

async fn ends_by_itself(bed: &mut Bed, sandbox: &str) {
    let script = "echo out; echo err >&2; hostname; cat /etc/resolv.conf; echo $FROM_IMAGE $HOSTNAME; exit 7";
    let id = bed.run(sandbox, shell("main", script)).await;
    let status = bed.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
    let output = bed.output("web-0", "main");
    for line in [
        "stdout F out\n",
        "stderr F err\n",
        "stdout F web-0\n",
        "stdout F nameserver 10.96.0.10\n",
        "stdout F yes web-0\n",
    ] {
        assert!(output.contains(line), "{line:?} is not in {output}");
    }
}

async fn is_stopped(bed: &mut Bed, sandbox: &str) {
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let id = bed.run(sandbox, shell("second", script)).await;
    assert_eq!(bed.status(&id).await.state(), ContainerState::ContainerRunning);
    let ran = bed
        .exec(&id, &["/bin/sh", "-c", "echo hi; echo no >&2; exit 3"])
        .await
        .expect("ran");
    assert_eq!(ran, ("hi\n".into(), "no\n".into(), 3));
    let missing = bed.exec(&id, &["no-such-program"]).await.expect_err("no such program");
    assert!(
        missing
            .message()
            .contains("exec: \"no-such-program\": executable file not found in $PATH"),
        "{missing}"
    );
    bed.stop(&id, 20).await;
    let status = bed.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert!(bed.output("web-0", "second").ends_with("stdout F bye\n"));
    bed.runtime
        .remove_container(RemoveContainerRequest { container_id: id })
        .await
        .expect("removed");
    let left = bed
        .runtime
        .list_containers(ListContainersRequest::default())
        .await
        .expect("listed");
    assert_eq!(left.into_inner().containers.len(), 1);
}

async fn cannot_start(bed: &mut Bed, sandbox: &str) {
    for (command, text) in [
        (
            "no-such-command",
            "exec: \"no-such-command\": executable file not found in $PATH",
        ),
        ("/etc/passwd", "permission denied"),
    ] {
        let name = command.trim_start_matches('/').replace('/', "-");
        let config = ContainerConfig {
            command: vec![command.into()],
            ..shell(&name, "")
        };
        let refused = bed.try_create(sandbox, config).await;
        assert!(
            refused.as_ref().is_err_and(|status| status.message().contains(text)),
            "{refused:?}"
        );
    }
    let left = bed
        .runtime
        .list_containers(ListContainersRequest::default())
        .await
        .expect("listed");
    assert_eq!(left.into_inner().containers.len(), 1);
}

#[tokio::test]
async fn a_container_lives_and_ends() {
    life(Bed::new(1).await).await;
}

#[tokio::test]
async fn runc_can_stand_in() {
    life(Bed::with(2, Some("/usr/sbin/runc")).await).await;
}

#[tokio::test]
async fn a_pod_may_ask_for_another_runtime() {
    let mut bed = Bed::new(24).await;
    let status = bed
        .runtime
        .status(StatusRequest::default())
        .await
        .expect("told")
        .into_inner();
    let names: Vec<&str> = status
        .runtime_handlers
        .iter()
        .map(|handler| handler.name.as_str())
        .collect();
    assert_eq!(names, ["", "other"]);
    let request = |handler: &str, config| RunPodSandboxRequest {
        config: Some(config),
        runtime_handler: handler.to_owned(),
    };
    let config = bed.sandbox_config("nobody");
    let refused = bed
        .runtime
        .run_pod_sandbox(request("nobody", config))
        .await
        .expect_err("nobody");
    assert_eq!(refused.message(), "no runtime for \"nobody\" is configured");
    let config = bed.sandbox_config("web-0");
    let sandbox = bed
        .runtime
        .run_pod_sandbox(request("other", config))
        .await
        .expect("made");
    let sandbox = sandbox.into_inner().pod_sandbox_id;
    let id = bed.run(&sandbox, shell("main", "while :; do sleep 0.05; done")).await;
    let kept = bed.state().join("oci-other").join(&id);
    assert!(kept.exists(), "runc knows nothing of {id}");
    // Who made a container is known after a restart, too.
    bed.kill();
    bed.start().await;
    let ran = bed.exec(&id, &["/bin/sh", "-c", "echo hi"]).await.expect("ran");
    assert_eq!(ran, ("hi\n".into(), String::new(), 0));
    bed.stop(&id, 0).await;
    let remove = RemoveContainerRequest { container_id: id };
    bed.runtime.remove_container(remove).await.expect("removed");
    assert!(!kept.exists(), "runc keeps {}", kept.display());
}
