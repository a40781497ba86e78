//! A real application with state: Redis with its append-only file, three replicas, each with its claim.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime, image};
use conformance::kubectl::Kubectl;
use conformance::load::{Load, none_is_lost, ordeal};
use std::collections::BTreeSet;

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: redis}
spec:
  clusterIP: None
  selector: {app: redis}
  ports: [{name: redis, port: 6379}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: redis}
spec:
  serviceName: redis
  replicas: 3
  selector: {matchLabels: {app: redis}}
  template:
    metadata: {labels: {app: redis}}
    spec:
      terminationGracePeriodSeconds: 20
      containers:
      - name: redis
        image: steadfast.local/redis:7
        args: [/usr/bin/redis-server, --dir, /data, --appendonly, "yes", --appendfsync, always, --protected-mode, "no"]
        ports: [{name: redis, containerPort: 6379}]
        readinessProbe:
          exec: {command: [/usr/bin/redis-cli, ping]}
          periodSeconds: 1
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 100Mi}}
"#;

const KEYS: usize = 20;
const IMAGE: &str = "steadfast.local/redis:7";

/// Each write goes to the next of the three servers; `OK` says that it is in the append-only file, on disk.
const SCRIPT: &str = "
for ((i = 1; ; i++)); do
  [ ! -e /tmp/stop ] || break
  [ \"$(timeout 2 redis-cli -h redis-$((i % 3)).redis set load-$i $i)\" != OK ] || echo ack $i
  sleep 0.02
done";

#[test]
fn redis_keeps_its_keys_through_deletion_kill_and_recreation() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    cluster.load(&image("redis"))?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset redis --timeout=180s")?;
    reach_each_other(&kubectl)?;

    write(&kubectl, "first")?;
    kubectl.run("delete pod redis-0 redis-1 redis-2")?;
    kubectl.run("rollout status statefulset redis --timeout=180s")?;
    read(&kubectl, "first").context("after the pods were deleted")?;

    write(&kubectl, "second")?;
    cluster.kill()?;
    cluster.up()?;
    kubectl.run("wait --for=condition=Ready pod/redis-0 pod/redis-1 pod/redis-2 --timeout=180s")?;
    read(&kubectl, "second").context("after the daemon was killed")?;

    write(&kubectl, "third")?;
    kubectl.run("delete statefulset redis")?;
    kubectl.run("wait --for=delete pod/redis-0 pod/redis-1 pod/redis-2 --timeout=180s")?;
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset redis --timeout=180s")?;
    for word in ["first", "second", "third"] {
        read(&kubectl, word).context("after the StatefulSet was made again")?;
    }

    let load = Load::start(&kubectl, IMAGE, SCRIPT)?;
    ordeal(&mut cluster, "redis", 3, &load)?;
    let acknowledged = load.stop()?;
    let mut found = BTreeSet::new();
    for pod in 0..3 {
        let keys = kubectl.shell(&format!("redis-{pod}"), "redis-cli --raw keys 'load-*'")?;
        found.extend(
            keys.lines()
                .filter_map(|key| key.strip_prefix("load-"))
                .map(str::to_owned),
        );
    }
    none_is_lost(&acknowledged, &found)
}

/// Each pod resolves the others by their short names, with glibc's resolver and the pod's search list.
fn reach_each_other(kubectl: &Kubectl) -> anyhow::Result<()> {
    for pod in 0..3 {
        for other in 0..3 {
            let answer = kubectl.shell(
                &format!("redis-{pod}"),
                &format!("redis-cli -h redis-{other}.redis ping"),
            )?;
            ensure!(answer.trim() == "PONG", "redis-{pod} to redis-{other}: {answer}");
        }
    }
    Ok(())
}

fn write(kubectl: &Kubectl, word: &str) -> anyhow::Result<()> {
    for pod in 0..3 {
        let script = format!("for i in $(seq {KEYS}); do redis-cli set {word}-$i {word}-of-{pod}-$i || exit 1; done");
        let said = kubectl.shell(&format!("redis-{pod}"), &script)?;
        ensure!(said.matches("OK").count() == KEYS, "{said}");
    }
    Ok(())
}

fn read(kubectl: &Kubectl, word: &str) -> anyhow::Result<()> {
    for pod in 0..3 {
        let script = format!("for i in $(seq {KEYS}); do redis-cli get {word}-$i; done");
        let found = kubectl.shell(&format!("redis-{pod}"), &script)?;
        let expected: String = (1..=KEYS).map(|i| format!("{word}-of-{pod}-{i}\n")).collect();
        ensure!(found == expected, "redis-{pod} has {found:?}");
    }
    Ok(())
}
