//! PostgreSQL as a StatefulSet: a primary and two streaming replicas.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime, image};
use conformance::kubectl::{Kubectl, PATIENCE};
use conformance::load::{Load, none_is_lost, ordeal};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const IMAGE: &str = "steadfast.local/postgresql:15";

// SIGINT is PostgreSQL's fast shutdown; after SIGTERM it waits for its clients to leave. Only the empty volume is given to
// the group: PostgreSQL refuses a data directory that its group may write to.
const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: pg}
spec:
  clusterIP: None
  selector: {app: pg}
  ports: [{name: postgresql, port: 5432}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: pg}
spec:
  serviceName: pg
  replicas: 3
  selector: {matchLabels: {app: pg}}
  template:
    metadata: {labels: {app: pg}}
    spec:
      os: {name: linux}
      securityContext:
        {runAsUser: 999, runAsGroup: 999, runAsNonRoot: true, fsGroup: 999, fsGroupChangePolicy: OnRootMismatch}
      terminationGracePeriodSeconds: 20
      containers:
      - name: postgresql
        image: steadfast.local/postgresql:15
        env: [{name: PATH, value: "/usr/lib/postgresql/15/bin:/bin"}, {name: PGDATA, value: /data/pg}]
        command: [/bin/bash, -ec]
        args:
        - |
          if [ ! -d $PGDATA ]; then
            rm -rf $PGDATA.new
            if [ $HOSTNAME = pg-0 ]; then
              initdb --pgdata=$PGDATA.new --username=postgres --auth=trust --no-locale --encoding=UTF8
              echo "host all,replication all 0.0.0.0/0 trust" >> $PGDATA.new/pg_hba.conf
            else
              pg_basebackup --host=pg-0.pg --username=postgres --pgdata=$PGDATA.new --write-recovery-conf --checkpoint=fast
            fi
            mv $PGDATA.new $PGDATA
          fi
          exec postgres -k /tmp -c listen_addresses='*' -c wal_keep_size=128MB -c shared_buffers=16MB
        lifecycle: {stopSignal: SIGINT}
        ports: [{name: postgresql, containerPort: 5432}]
        readinessProbe:
          exec: {command: [pg_isready, -q, -h, 127.0.0.1]}
          periodSeconds: 1
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 500Mi}}
"#;

/// One connection as long as it lasts, then another: the server commits before it answers, and psql prints the answer.
const SCRIPT: &str = r#"
export PATH=/usr/lib/postgresql/15/bin:/bin PGUSER=postgres PGHOST=pg-0.pg PGCONNECT_TIMEOUT=3
until psql -c 'create table if not exists load (id bigserial primary key)'; do sleep 0.2; done
writes() {
  while [ ! -e /tmp/stop ]; do
    echo "insert into load default values returning 'ack ' || id;"
    sleep 0.03
  done
}
while [ ! -e /tmp/stop ]; do
  writes | psql --quiet --no-align --tuples-only --set=ON_ERROR_STOP=1
  sleep 0.2
done
"#;

#[test]
fn postgresql_and_its_replicas_lose_no_acknowledged_write() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    cluster.load(&image("postgresql"))?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset pg --timeout=180s")?;
    let load = Load::start(&kubectl, IMAGE, SCRIPT)?;
    ordeal(&mut cluster, "pg", 3, &load)?;
    let acknowledged = load.stop()?;
    none_is_lost(&acknowledged, &rows(&kubectl, 0)?).context("the primary")?;
    for replica in [1, 2] {
        let is_replica = query(&kubectl, replica, "select pg_is_in_recovery()")?;
        ensure!(is_replica.trim() == "t", "pg-{replica} is no replica");
        follows(&kubectl, replica, &acknowledged)?;
    }
    Ok(())
}

/// A replica has everything, at the latest some moments after the primary.
fn follows(kubectl: &Kubectl, replica: usize, acknowledged: &BTreeSet<String>) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = rows(kubectl, replica)?;
        if acknowledged.is_subset(&found) || Instant::now() > end {
            return none_is_lost(acknowledged, &found).with_context(|| format!("replica pg-{replica}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn rows(kubectl: &Kubectl, ordinal: usize) -> anyhow::Result<BTreeSet<String>> {
    let rows = query(kubectl, ordinal, "select id from load")?;
    Ok(rows.lines().map(str::to_owned).collect())
}

fn query(kubectl: &Kubectl, ordinal: usize, sql: &str) -> anyhow::Result<String> {
    let psql = "/usr/lib/postgresql/15/bin/psql --host=127.0.0.1 --username=postgres --no-align --tuples-only";
    kubectl.shell(&format!("pg-{ordinal}"), &format!("{psql} --command='{sql}'"))
}
