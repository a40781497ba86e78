//! Pods and Services of two address families, and of IPv6 alone: addresses, names, packets, crashes.

use anyhow::{Context, ensure};
use conformance::cluster::{Cluster, Runtime};
use conformance::dig;
use conformance::kubectl::Kubectl;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const MANIFEST: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web-hosts}
spec: {clusterIP: None, ipFamilyPolicy: PreferDualStack, selector: {app: web}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
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
        env: [{name: IPS, valueFrom: {fieldRef: {fieldPath: status.podIPs}}}]
        readinessProbe:
          httpGet: {path: /, port: http}
          periodSeconds: 1
"#;

const PODS: &str = "--pod-cidr=10.244.0.0/16,fd00:10:244::/64";
const SERVICES: &str = "--service-cidr=10.96.0.0/16,fd00:10:96::/108";
const PODS_SIX: &str = "--pod-cidr=fd00:10:244::/64";
const SERVICES_SIX: &str = "--service-cidr=fd00:10:96::/108";

/// Where DNS is asked: at the Service's addresses.
const DNS: [&str; 2] = ["10.96.0.10:53", "[fd00:10:96::a]:53"];
/// And at those of our own pods' gateway.
const DNS_GATEWAY: [&str; 2] = ["10.244.0.1:53", "[fd00:10:244::1]:53"];

/// How long rules may take to follow; a bound for a test that fails, nothing that is measured.
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_cluster_of_two_families() {
    both().unwrap();
}

#[test]
fn a_cluster_of_ipv6_alone() {
    six().unwrap();
}

#[test]
fn a_network_of_others_with_two_families() {
    of_others().unwrap();
}

#[test]
fn a_cluster_that_gets_a_second_family() {
    grown().unwrap();
}

fn both() -> anyhow::Result<()> {
    let mut cluster = Cluster::start_with_options(Runtime::Embedded, &[PODS, SERVICES])?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    let families = ["IPv4", "IPv6"];
    let web = kubectl.get("service web")?;
    let own: Vec<IpAddr> = ips(&web["spec"]["clusterIPs"], |ip| ip.as_str())?;
    ensure!(own.len() == 2 && own[0].is_ipv4() && own[1].is_ipv6(), "{own:?}");
    pods_tell_their_addresses(&kubectl)?;
    let node = &kubectl.get("nodes")?["items"][0];
    ensure!(
        node["spec"]["podCIDRs"] == serde_json::json!(["10.244.0.0/16", "fd00:10:244::/64"]),
        "{node}"
    );
    for family in families {
        slice_has_both_pods(&kubectl, family)?;
    }
    names_have_addresses(&cluster, &[DNS, DNS_GATEWAY].concat())?;

    let all = BTreeSet::from(["web-0".to_owned(), "web-1".to_owned()]);
    let node_port = u16::try_from(web["spec"]["ports"][0]["nodePort"].as_u64().context("no nodePort")?)?;
    let gateways = ["10.244.0.1", "fd00:10:244::1"].map(|ip| ip.parse::<IpAddr>());
    for gateway in gateways {
        until(
            || names(SocketAddr::new(gateway.clone()?, node_port)),
            |names| *names == all,
        )?;
    }
    for ip in &own {
        let service = SocketAddr::new(*ip, 80);
        until(|| names(service), |names| *names == all).with_context(|| format!("{ip} from this machine"))?;
        from_pods(&kubectl, *ip, &all)?;
    }
    kubectl.shell(
        "web-0",
        "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null",
    )?;

    // Addresses survive a crash, and so do the rules that lead to them; a pod made anew has its name and new addresses.
    let before = addresses(&kubectl, "web-0")?;
    cluster.kill()?;
    ensure!(names(SocketAddr::new(own[1], 80))? == all, "rules went with the daemon");
    cluster.up()?;
    ensure!(addresses(&kubectl, "web-0")? == before, "the crash changed addresses");
    kubectl.run("delete pod web-0 --wait=true")?;
    let changed = until(
        || addresses(&kubectl, "web-0"),
        |now| now.len() == 2 && now.iter().all(|ip| !before.contains(ip)),
    )?;
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    ensure!(!changed.contains(&addresses(&kubectl, "web-1")?[0]), "{changed:?}");
    names_have_addresses(&cluster, &DNS)?;
    for ip in &own {
        until(|| names(SocketAddr::new(*ip, 80)), |names| *names == all).context("after web-0 was made anew")?;
    }

    // One family again: the address is given back, its endpoints and its way go.
    let single = "patch service web --type merge -p {\"spec\":{\"ipFamilyPolicy\":\"SingleStack\"}}";
    kubectl.run(single)?;
    until(|| Ok(names(SocketAddr::new(own[1], 80)).is_err()), |gone| *gone).context("the released address")?;
    ensure!(names(SocketAddr::new(own[0], 80))? == all);
    Ok(())
}

fn six() -> anyhow::Result<()> {
    let cluster = Cluster::start_with_options(Runtime::Embedded, &[PODS_SIX, SERVICES_SIX])?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    // Probes reach pods that have IPv6 addresses only.
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    let web = kubectl.get("service web")?;
    let own: Vec<IpAddr> = ips(&web["spec"]["clusterIPs"], |ip| ip.as_str())?;
    ensure!(own.len() == 1 && own[0].is_ipv6(), "{own:?}");
    slice_has_both_pods(&kubectl, "IPv6")?;
    names_have_addresses(&cluster, &[DNS[1], DNS_GATEWAY[1]])?;
    let all = BTreeSet::from(["web-0".to_owned(), "web-1".to_owned()]);
    from_pods(&kubectl, own[0], &all)?;
    // By its name, which the pod's resolver asks of the server's IPv6 address.
    let said = kubectl.shell(
        "web-1",
        "cat /etc/resolv.conf; nc -w 5 web-0.web-hosts 8080 < /dev/null && echo reached",
    )?;
    ensure!(
        said.contains("nameserver fd00:10:96::a") && said.contains("reached"),
        "{said}"
    );
    let said = kubectl.shell(
        "web-0",
        "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo reached",
    )?;
    ensure!(said.contains("reached"), "{said}");
    Ok(())
}

/// Pods of containerd, with the addresses that its network plug-in gives them.
fn of_others() -> anyhow::Result<()> {
    let cluster = Cluster::start_with_options(Runtime::Containerd, &[PODS, SERVICES])?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    pods_tell_their_addresses(&kubectl)?;
    names_have_addresses(&cluster, &DNS)?;
    let all = BTreeSet::from(["web-0".to_owned(), "web-1".to_owned()]);
    for ip in ips(&kubectl.get("service web")?["spec"]["clusterIPs"], |ip| ip.as_str())? {
        until(|| names(SocketAddr::new(ip, 80)), |names| *names == all)
            .with_context(|| format!("{ip} from this machine"))?;
        from_pods(&kubectl, ip, &all)?;
    }
    Ok(())
}

/// Pods and Services go on with what they have, and get the other family when they are made anew, and told.
fn grown() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(Runtime::Embedded)?;
    let kubectl = cluster.kubectl();
    kubectl.run_with("apply -f -", MANIFEST)?;
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    let before = addresses(&kubectl, "web-0")?;
    ensure!(before.len() == 1 && before[0].is_ipv4(), "{before:?}");
    cluster.stop()?;
    cluster.change_options(&[PODS, SERVICES]);
    cluster.up()?;
    let all = BTreeSet::from(["web-0".to_owned(), "web-1".to_owned()]);
    let own = |kubectl: &Kubectl| ips(&kubectl.get("service web")?["spec"]["clusterIPs"], |ip| ip.as_str());
    let first = own(&kubectl)?;
    ensure!(
        first.len() == 1 && addresses(&kubectl, "web-0")? == before,
        "the restart changed addresses"
    );
    until(|| names(SocketAddr::new(first[0], 80)), |names| *names == all).context("with one family still")?;
    for service in ["web", "web-hosts"] {
        let dual =
            format!("patch service {service} --type merge -p {{\"spec\":{{\"ipFamilyPolicy\":\"RequireDualStack\"}}}}");
        kubectl.run(&dual)?;
    }
    kubectl.run("rollout restart statefulset web")?;
    kubectl.run("rollout status statefulset web --timeout=180s")?;
    names_have_addresses(&cluster, &DNS)?;
    let both = own(&kubectl)?;
    ensure!(both.len() == 2 && both[0] == first[0] && both[1].is_ipv6(), "{both:?}");
    for ip in both {
        until(|| names(SocketAddr::new(ip, 80)), |names| *names == all).with_context(|| format!("at {ip}"))?;
    }
    Ok(())
}

/// In its status, its hosts file and its variables.
fn pods_tell_their_addresses(kubectl: &Kubectl) -> anyhow::Result<()> {
    let found = addresses(kubectl, "web-0")?;
    ensure!(
        found.len() == 2 && found[0].is_ipv4() && found[1].is_ipv6(),
        "{found:?}"
    );
    let said = kubectl.shell("web-0", "cat /etc/hosts; echo \"$IPS\"")?;
    for ip in &found {
        ensure!(
            said.lines().any(|line| line.starts_with(&format!("{ip}\tweb-0."))),
            "{said}"
        );
    }
    ensure!(
        said.trim_end().ends_with(&format!("{},{}", found[0], found[1])),
        "{said}"
    );
    let nodes = kubectl.get("nodes")?;
    let node = &nodes["items"][0];
    let pod = kubectl.get("pod web-0")?;
    let listed = node["status"]["addresses"].as_array().context("no addresses")?;
    let internal = listed.iter().filter(|address| address["type"] == "InternalIP");
    let internal: Vec<&Value> = internal.map(|address| &address["address"]).collect();
    let hosts = pod["status"]["hostIPs"].as_array().context("no hostIPs")?;
    ensure!(
        hosts.iter().map(|host| &host["ip"]).collect::<Vec<_>>() == internal,
        "{hosts:?}"
    );
    Ok(())
}

fn addresses(kubectl: &Kubectl, pod: &str) -> anyhow::Result<Vec<IpAddr>> {
    let pod = kubectl.get(&format!("pod {pod}"))?;
    ips(&pod["status"]["podIPs"], |entry| entry["ip"].as_str())
}

fn ips<'a>(list: &'a Value, text: impl Fn(&'a Value) -> Option<&'a str>) -> anyhow::Result<Vec<IpAddr>> {
    let entries = list.as_array().context("no list of addresses")?;
    let texts = entries.iter().map(|entry| text(entry).context("no address"));
    texts.map(|text| Ok(text?.parse()?)).collect()
}

fn slice_has_both_pods(kubectl: &Kubectl, family: &str) -> anyhow::Result<()> {
    let ready = |service: &str| {
        let slices = kubectl.get(&format!("endpointslices -l kubernetes.io/service-name={service}"))?;
        let slices = slices["items"].as_array().cloned().unwrap_or_default();
        let endpoints = slices.iter().filter(|slice| slice["addressType"] == family);
        let endpoints = endpoints.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        Ok(endpoints
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .count())
    };
    for service in ["web", "web-hosts"] {
        until(|| ready(service), |count| *count == 2).with_context(|| format!("{family} endpoints of {service}"))?;
    }
    Ok(())
}

/// A and AAAA of each pod, asked of each server, and the way back from an address to its name.
fn names_have_addresses(cluster: &Cluster, servers: &[&str]) -> anyhow::Result<()> {
    let servers: Vec<SocketAddr> = servers.iter().map(|server| server.parse()).collect::<Result<_, _>>()?;
    for pod in ["web-0", "web-1"] {
        let name = format!("{pod}.web-hosts.default.svc.cluster.local");
        let own = addresses(&cluster.kubectl(), pod)?;
        for server in &servers {
            for (kind, is_six) in [("A", false), ("AAAA", true)] {
                let expected: Vec<String> = own
                    .iter()
                    .filter(|ip| ip.is_ipv6() == is_six)
                    .map(IpAddr::to_string)
                    .collect();
                let ask = || Ok(dig::ask(*server, &format!("{name} {kind}"))?.data());
                until(ask, |found| *found == expected).with_context(|| format!("{name} {kind} of {server}"))?;
            }
            for ip in &own {
                let found = dig::ask(*server, &format!("-x {ip}"))?.data();
                ensure!(found == [format!("{name}.")], "{ip} is {found:?}");
            }
        }
    }
    Ok(())
}

/// A pod reaches all endpoints, itself among them.
fn from_pods(kubectl: &Kubectl, ip: IpAddr, all: &BTreeSet<String>) -> anyhow::Result<()> {
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {ip} 80 | tail -n 1");
    let script = format!("for i in $(seq 24); do {ask} || exit 1; done");
    for pod in ["web-0", "web-1"] {
        let said = kubectl.shell(pod, &script)?;
        let names: BTreeSet<String> = said.lines().map(str::to_owned).collect();
        ensure!(names == *all, "{pod} reached {names:?} at {ip}");
    }
    Ok(())
}

/// Who answers, asked often enough to meet everybody.
fn names(target: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    (0..24).map(|_| ask(target)).collect()
}

fn ask(target: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split("\r\n\r\n").nth(1).context("no body")?;
    Ok(body.trim().to_owned())
}

/// Asks again until the answer is as wanted.
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
