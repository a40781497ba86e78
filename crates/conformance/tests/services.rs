//! Packets to Services: from pods, from this machine, to own addresses and node ports, while endpoints come and go.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::kubectl::Kubectl;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web-hosts}
spec: {clusterIP: None, selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec:
  sessionAffinity: ClientIP
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web-hosts
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: steadfast.local/web:1
        command: [/bin/sh, -c, "hostname > /www/index.html; exec /bin/httpd -f -p 8080 -h /www"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe:
          httpGet: {path: /, port: http}
          periodSeconds: 1
"#;

/// How long rules may take to follow; a bound for a test that fails, nothing that is measured.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn packets_reach_the_endpoints_of_services() {
    run().unwrap();
}

fn run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    let web = kubectl.get("service web")?;
    let address: IpAddr = web["spec"]["clusterIP"].as_str().context("no clusterIP")?.parse()?;
    let node_port = u16::try_from(web["spec"]["ports"][0]["nodePort"].as_u64().context("no nodePort")?)?;
    let own = SocketAddr::new(address, 80);
    let both = BTreeSet::from(["web-0".to_owned(), "web-1".to_owned()]);

    // From this machine, by the Service's address and by the node's port on an address of the machine.
    let from_host = until(|| names(own), |names| *names == both).context("from this machine")?;
    ensure!(from_host == both);
    let gateway = SocketAddr::new("10.244.0.1".parse()?, node_port);
    until(|| names(gateway), |names| *names == both).context("by the node's port")?;

    from_pods(&kubectl, own, &both)?;
    let favourite = sticky(&kubectl)?;
    let health = health_check(&kubectl, 2)?;
    api_server(&kubectl)?;

    // Rules are the kernel's: they lead packets while no daemon runs, and a restart takes them over.
    cluster.kill()?;
    ensure!(names(own)? == both, "rules went with the daemon");
    cluster.up()?;
    until(|| names(own), |names| *names == both).context("after the restart")?;
    until(|| health_check(&kubectl, 2), |_| true).context("health check after the restart")?;
    ensure!(
        sticky(&kubectl)? == favourite,
        "the restart made a client change its endpoint"
    );

    // A pod that is gone gets nothing; the last one gone, connections are refused rather than left hanging.
    kubectl.run("scale statefulset web --replicas=1")?;
    kubectl.run("wait --for=delete pod/web-1 --timeout=120s")?;
    until(|| names(own), |names| names.len() == 1 && names.contains("web-0")).context("with one pod")?;
    kubectl.run("scale statefulset web --replicas=0")?;
    kubectl.run("wait --for=delete pod/web-0 --timeout=120s")?;
    for target in [own, gateway] {
        until(
            || Ok(refusal(target)),
            |refusal| *refusal == Some(ErrorKind::ConnectionRefused),
        )
        .with_context(|| format!("{target} without pods"))?;
    }
    until(|| get(health), |answer| answer.starts_with("HTTP/1.0 503")).context("health check without pods")?;
    kubectl.run("scale statefulset web --replicas=2")?;
    until(|| names(own), |names| *names == both).context("with pods again")?;
    Ok(())
}

/// A pod reaches all endpoints, itself among them, and the other sees who asked.
fn from_pods(kubectl: &Kubectl, own: SocketAddr, both: &BTreeSet<String>) -> anyhow::Result<()> {
    let (ip, port) = (own.ip(), own.port());
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {ip} {port} | tail -n 1");
    let script = format!("for i in $(seq 24); do {ask} || exit 1; done");
    for pod in ["web-0", "web-1"] {
        let said = kubectl.shell(pod, &script)?;
        let names: BTreeSet<String> = said.lines().map(str::to_owned).collect();
        ensure!(names == *both, "{pod} reached {names:?}");
    }
    Ok(())
}

/// A client stays with its endpoint, which is returned.
fn sticky(kubectl: &Kubectl) -> anyhow::Result<BTreeSet<String>> {
    let service = kubectl.get("service sticky")?;
    let address: IpAddr = service["spec"]["clusterIP"].as_str().context("no clusterIP")?.parse()?;
    let found = until(|| names(SocketAddr::new(address, 80)), |names| !names.is_empty())?;
    ensure!(found.len() == 1, "one client reached {found:?}");
    Ok(found)
}

/// A load balancer is told how many endpoints this machine has. Where it asks.
fn health_check(kubectl: &Kubectl, endpoints: usize) -> anyhow::Result<SocketAddr> {
    let service = kubectl.get("service balanced")?;
    let port = service["spec"]["healthCheckNodePort"]
        .as_u64()
        .context("no healthCheckNodePort")?;
    let target = SocketAddr::new("10.244.0.1".parse()?, u16::try_from(port)?);
    let answer = until(
        || get(target),
        |answer| answer.contains(&format!("\"localEndpoints\":{endpoints}")),
    )?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    Ok(target)
}

/// The API server answers pods at the address of `default/kubernetes`, which has an endpoint like any Service.
fn api_server(kubectl: &Kubectl) -> anyhow::Result<()> {
    let said = kubectl.shell(
        "web-0",
        "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo reached",
    )?;
    ensure!(said.contains("reached"), "{said}");
    let slice = kubectl.get("endpointslice kubernetes")?;
    ensure!(slice["endpoints"][0]["addresses"][0].is_string(), "{slice}");
    kubectl.run("--server=https://10.96.0.1 get pods")?;
    Ok(())
}

/// Who answers, asked often enough to meet everybody.
fn names(target: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    (0..24).map(|_| ask(target)).collect()
}

fn ask(target: SocketAddr) -> anyhow::Result<String> {
    let answer = get(target)?;
    let body = answer.split("\r\n\r\n").nth(1).context("no body")?;
    Ok(body.trim().to_owned())
}

fn get(target: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn refusal(target: SocketAddr) -> Option<ErrorKind> {
    TcpStream::connect_timeout(&target, Duration::from_secs(5))
        .err()
        .map(|error| error.kind())
}

/// Asks again until the answer is as wanted; the kernel tells nobody when its rules change.
fn until<T: std::fmt::Debug>(ask: impl Fn() -> anyhow::Result<T>, wanted: impl Fn(&T) -> bool) -> anyhow::Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match ask() {
            Ok(answer) if wanted(&answer) => return Ok(answer),
            last if Instant::now() > end => anyhow::bail!("still {last:?}"),
            _ => std::thread::yield_now(),
        }
    }
}
