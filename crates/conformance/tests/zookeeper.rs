//! ZooKeeper as a StatefulSet: three members that know each other by their names only.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime, image};
use conformance::kubectl::Kubectl;
use conformance::load::{Load, none_is_lost, ordeal};
use std::collections::BTreeSet;

const IMAGE: &str = "steadfast.local/zookeeper:3.8";

// The members find each other while none is ready yet, so the Service publishes them before.
const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: zk}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: zk}
  ports: [{name: client, port: 2181}, {name: follower, port: 2888}, {name: election, port: 3888}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: zk}
spec:
  serviceName: zk
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: zk}}
  template:
    metadata: {labels: {app: zk}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: zookeeper
        image: steadfast.local/zookeeper:3.8
        command: [/bin/bash, -ec]
        args:
        - |
          mkdir -p /data/zk
          echo $((${HOSTNAME##*-} + 1)) > /data/zk/myid
          cat > /tmp/zoo.cfg <<END
          tickTime=500
          maxSessionTimeout=60000
          initLimit=20
          syncLimit=10
          dataDir=/data/zk
          clientPort=2181
          admin.enableServer=false
          4lw.commands.whitelist=srvr
          server.1=zk-0.zk:2888:3888
          server.2=zk-1.zk:2888:3888
          server.3=zk-2.zk:2888:3888
          END
          exec java -Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dsun.net.inetaddr.ttl=1 -cp '/usr/share/java/*' \
            org.apache.zookeeper.server.quorum.QuorumPeerMain /tmp/zoo.cfg
        readinessProbe:
          exec:
            command:
            - /bin/bash
            - -ec
            - exec 3<>/dev/tcp/127.0.0.1/2181; echo srvr >&3; grep -qE 'Mode. (leader|follower)' <&3
          periodSeconds: 1
        ports: [{name: client, containerPort: 2181}]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 100Mi}}
"#;

// Java keeps addresses for 30 s unless told otherwise: longer than it takes to delete two members, and a session that
// finds none of them in time is lost for good.
const CLIENT: &str = "java -Xmx64m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dsun.net.inetaddr.ttl=1 \
    -Dsun.net.inetaddr.negative.ttl=1 -cp '/usr/share/java/*' org.apache.zookeeper.ZooKeeperMain";

#[test]
fn zookeeper_forms_a_quorum_by_names_and_loses_no_acknowledged_write() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    cluster.load(&image("zookeeper"))?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset zk --timeout=180s")?;
    has_one_leader(&kubectl).context("at the start")?;
    let load = Load::start(&kubectl, IMAGE, &script())?;
    ordeal(&mut cluster, "zk", 3, &load)?;
    let acknowledged = load.stop()?;
    has_one_leader(&kubectl).context("at the end")?;
    for member in 0..3 {
        let found = children(&kubectl, member)?;
        none_is_lost(&acknowledged, &found).with_context(|| format!("member zk-{member}"))?;
    }
    Ok(())
}

/// One client for all the time; its library goes to another member when one is gone. `Created PATH` is the answer.
fn script() -> String {
    let servers = "zk-0.zk:2181,zk-1.zk:2181,zk-2.zk:2181";
    format!(
        "writes() {{ echo 'create /load'; for ((i = 1; ; i++)); do
            [ ! -e /tmp/stop ] || break; echo \"create /load/$i\"; sleep 0.05; done; }}
        writes | {CLIENT} -server {servers} 2>&1 | while read -r line; do
            case $line in 'Created /load/'*) echo ack ${{line#Created /load/}};; *Exception*|*KeeperErrorCode*) echo $line;; esac; done"
    )
}

fn has_one_leader(kubectl: &Kubectl) -> anyhow::Result<()> {
    let mut modes = Vec::new();
    for member in 0..3 {
        let ask = "exec 3<>/dev/tcp/127.0.0.1/2181; echo srvr >&3; sed -n 's/^Mode: //p' <&3";
        modes.push(kubectl.shell(&format!("zk-{member}"), ask)?.trim().to_owned());
    }
    modes.sort();
    ensure!(modes == ["follower", "follower", "leader"], "the members are {modes:?}");
    Ok(())
}

/// What a member has, after it has caught up with the leader.
fn children(kubectl: &Kubectl, member: usize) -> anyhow::Result<BTreeSet<String>> {
    let read = format!("printf 'sync /load\\nls /load\\n' | {CLIENT} -server 127.0.0.1:2181");
    let said = kubectl.shell(&format!("zk-{member}"), &read)?;
    let list = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix('[')?.strip_suffix(']'));
    let list = list.with_context(|| format!("no list in {said:?}"))?;
    Ok(list.split(", ").map(str::to_owned).collect())
}
