//! etcd as a StatefulSet: three members that know each other by their names only; on containerd.

use anyhow::Context;
use conformance::cluster::{Cluster, Runtime, image};
use conformance::load::{Load, none_is_lost, ordeal};

const IMAGE: &str = "steadfast.local/etcd:3.4";

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: etcd}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {app: etcd}
  ports: [{name: client, port: 2379}, {name: peer, port: 2380}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: etcd}
spec:
  serviceName: etcd
  replicas: 3
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: etcd}}
  template:
    metadata: {labels: {app: etcd}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: etcd
        image: steadfast.local/etcd:3.4
        command:
        - /bin/bash
        - -c
        - >-
          exec etcd --name=$HOSTNAME --data-dir=/data/etcd
          --listen-peer-urls=http://0.0.0.0:2380 --initial-advertise-peer-urls=http://$HOSTNAME.etcd:2380
          --listen-client-urls=http://0.0.0.0:2379 --advertise-client-urls=http://$HOSTNAME.etcd:2379
          --initial-cluster=etcd-0=http://etcd-0.etcd:2380,etcd-1=http://etcd-1.etcd:2380,etcd-2=http://etcd-2.etcd:2380
        readinessProbe:
          exec: {command: [etcdctl, endpoint, health]}
          periodSeconds: 1
          timeoutSeconds: 3
        env: [{name: ETCDCTL_API, value: "3"}]
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 500Mi}}
"#;

const SCRIPT: &str = "
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://etcd-0.etcd:2379,http://etcd-1.etcd:2379,http://etcd-2.etcd:2379
for ((i = 1; ; i++)); do
  [ ! -e /tmp/stop ] || break
  etcdctl put load/$i $i && echo ack $i
  sleep 0.02
done";

#[test]
fn etcd_forms_a_quorum_by_names_and_loses_no_acknowledged_write() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Containerd)?;
    cluster.load(&image("etcd"))?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset etcd --timeout=180s")?;
    let load = Load::start(&kubectl, IMAGE, SCRIPT)?;
    ordeal(&mut cluster, "etcd", 3, &load)?;
    let acknowledged = load.stop()?;
    for member in 0..3 {
        // A linearizable read: the member has asked the leader how far it must be.
        let keys = kubectl.shell(&format!("etcd-{member}"), "etcdctl get load/ --prefix --keys-only")?;
        let found = keys.lines().filter_map(|key| key.strip_prefix("load/"));
        none_is_lost(&acknowledged, &found.map(str::to_owned).collect())
            .with_context(|| format!("member etcd-{member}"))?;
    }
    Ok(())
}
