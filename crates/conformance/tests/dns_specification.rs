//! The Kubernetes DNS specification 1.1, line by line, against a server that is known by its address alone and a cluster
//! that is known by its kubeconfig alone.
//!
//! `STEADFAST_DNS_SERVER=10.96.0.10:53 KUBECONFIG=…` judges any server of any cluster whose domain is `cluster.local`;
//! without them, the server is `steadfast dns` beside a control plane without a node. docs/dns.md says which line of the
//! specification is checked where.

use anyhow::{Context, ensure};
use conformance::control_plane::ControlPlane;
use conformance::dig::{Reply, ask, until};
use conformance::dns_server::DnsServer;
use conformance::kubectl::{Kubectl, PATIENCE};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const OBJECTS: &str = include_str!("dns_specification/objects.yaml");

/// What names of the test's namespace end with.
const HERE: &str = "dns-spec.svc.cluster.local";

/// The server under test, and the cluster it speaks for.
struct Subject {
    server: SocketAddr,
    kubectl: Kubectl,
    /// The addresses that the cluster gave to the Services `cluster` and `unnamed`.
    cluster_ip: String,
    unnamed_ip: String,
    own: Option<(DnsServer, ControlPlane)>,
}

impl Subject {
    fn start() -> anyhow::Result<Self> {
        let given = std::env::var("STEADFAST_DNS_SERVER").ok();
        let (server, kubectl, own) = match given {
            Some(server) => {
                let kubeconfig = std::env::var_os("KUBECONFIG").context("KUBECONFIG is not set")?;
                (
                    server.parse()?,
                    Kubectl::new("kubectl", &PathBuf::from(kubeconfig)),
                    None,
                )
            }
            None => {
                let plane = ControlPlane::alone("dns-spec")?;
                let server = DnsServer::start(&plane.kubeconfig(), plane.address(), "none")?;
                (server.address(), plane.kubectl(), Some((server, plane)))
            }
        };
        make_objects(&kubectl)?;
        let ip = |name: &str| {
            let service = kubectl.get(&format!("-n dns-spec service {name}"))?;
            anyhow::Ok(service["spec"]["clusterIP"].as_str().context("no address")?.to_owned())
        };
        let (cluster_ip, unnamed_ip) = (ip("cluster")?, ip("unnamed")?);
        let this = Self {
            server,
            kubectl,
            cluster_ip,
            unnamed_ip,
            own,
        };
        this.give_addresses()?;
        Ok(this)
    }

    /// Plays the node: pods get addresses; only the first becomes ready.
    fn give_addresses(&self) -> anyhow::Result<()> {
        for (pod, address, is_ready) in [("first", "10.244.9.21", true), ("second", "10.244.9.22", false)] {
            let ready = if is_ready { "True" } else { "False" };
            let status = format!(
                r#"{{"status":{{"phase":"Running","podIP":"{address}","podIPs":[{{"ip":"{address}"}}],
                "conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
            );
            let patch = [
                "-n",
                "dns-spec",
                "patch",
                "pod",
                pod,
                "--subresource=status",
                "--type=merge",
                "-p",
            ];
            self.kubectl.run_words(&[&patch[..], &[&status]].concat())?;
        }
        until(self.server, &format!("first.named.{HERE}"), &["10.244.9.21"])?;
        until(self.server, &format!("second.early.{HERE}"), &["10.244.9.22"])?;
        until(self.server, &format!("web-0.headless.{HERE}"), &["10.244.9.1"])?;
        until(self.server, &format!("plain.{HERE} AAAA"), &["fd00::9:1"])?;
        until(self.server, &format!("cluster.{HERE}"), &[&self.cluster_ip])
    }

    fn ask(&self, question: &str) -> anyhow::Result<Reply> {
        ask(self.server, &question.replace('@', HERE))
    }

    /// Each line: where the specification says it, the question, the data of the answers (`@`: what names end with).
    fn check(&self, rows: &[(&str, &str, &[&str])]) -> anyhow::Result<()> {
        for (section, question, expected) in rows {
            let mut expected: Vec<String> = expected.iter().map(|data| data.replace('@', HERE)).collect();
            expected.sort();
            for way in ["+notcp", "+tcp"] {
                let reply = self.ask(&format!("{way} {question}"))?;
                ensure!(
                    reply.status == "NOERROR" && reply.data() == expected,
                    "{section}: {question} should give {expected:?}, gives {}",
                    reply.text
                );
            }
        }
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if self.own.is_none() {
            drop(self.kubectl.run("delete namespace dns-spec --wait=false"));
            drop(self.kubectl.run("delete node dns-spec-node --wait=false"));
        }
    }
}

/// Again and again while the namespace has no service account yet, which pods need.
fn make_objects(kubectl: &Kubectl) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match kubectl.run_with("apply -f -", OBJECTS) {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
            made => return made.map(drop),
        }
    }
}

#[test]
fn names_are_as_the_specification_has_them() {
    let subject = Subject::start().unwrap();
    version(&subject).unwrap();
    cluster_addresses(&subject).unwrap();
    headless(&subject).unwrap();
    pods_of_headless(&subject).unwrap();
    aliases(&subject).unwrap();
    denials(&subject).unwrap();
    protocol(&subject).unwrap();
    changes(&subject).unwrap();
    counted(&subject).unwrap();
}

/// 2.2
fn version(subject: &Subject) -> anyhow::Result<()> {
    subject.check(&[("2.2 dns-version", "dns-version.cluster.local TXT", &["\"1.1.0\""])])
}

/// 2.3
fn cluster_addresses(subject: &Subject) -> anyhow::Result<()> {
    let (ip, unnamed) = (subject.cluster_ip.as_str(), subject.unnamed_ip.as_str());
    let (pointer, unnamed_pointer) = (format!("-x {ip}"), format!("-x {unnamed}"));
    subject.check(&[
        ("2.3.1 A", "cluster.@ A", &[ip]),
        ("2.3.1 A", "unnamed.@ A", &[unnamed]),
        ("2.3.1 AAAA of an IPv4 Service", "cluster.@ AAAA", &[]),
        ("2.3.2 SRV", "_http._tcp.cluster.@ SRV", &["0 100 80 cluster.@."]),
        ("2.3.2 SRV", "_talk._udp.cluster.@ SRV", &["0 100 5300 cluster.@."]),
        ("2.3.3 PTR", &pointer, &["cluster.@."]),
        ("2.3.3 PTR", &unnamed_pointer, &["unnamed.@."]),
        (
            "2.3 default/kubernetes",
            "_https._tcp.kubernetes.default.svc.cluster.local SRV",
            &["0 100 443 kubernetes.default.svc.cluster.local."],
        ),
    ])?;
    let reply = subject.ask("_http._tcp.cluster.@ SRV")?;
    let address = format!("cluster.{HERE}. 5 A {ip}");
    ensure!(
        reply.additional == [address],
        "2.3.2 address of the target: {}",
        reply.text
    );
    // An unnamed port has no SRV record.
    ensure!(
        subject.ask("_tcp.unnamed.@ SRV")?.status == "NXDOMAIN",
        "2.3.2 unnamed port"
    );
    Ok(())
}

/// 2.4, of endpoints that somebody wrote down
fn headless(subject: &Subject) -> anyhow::Result<()> {
    let dashed = "10-244-9-3.headless.@.";
    subject.check(&[
        (
            "2.4.1 A, ready only, unknown counts as ready",
            "headless.@",
            &["10.244.9.1", "10.244.9.2", "10.244.9.3", "10.244.9.5"],
        ),
        ("2.4.1 A of a hostname", "web-0.headless.@", &["10.244.9.1"]),
        ("2.4.1 A of a hostname", "web-1.headless.@", &["10.244.9.2"]),
        ("2.4.1 A of a hostname", "web-5.headless.@", &["10.244.9.5"]),
        ("2.4.1 A without a hostname", "10-244-9-3.headless.@", &["10.244.9.3"]),
        ("2.4.1 AAAA", "plain.@ AAAA", &["fd00::9:1"]),
        ("2.4.1 AAAA of a hostname", "six.plain.@ AAAA", &["fd00::9:1"]),
        ("2.4.1 A of a Service with AAAA only", "plain.@ A", &[]),
        (
            "2.4.2 SRV",
            "_http._tcp.headless.@ SRV",
            &[
                "0 100 8080 web-0.headless.@.",
                "0 100 8080 web-1.headless.@.",
                "0 100 8080 web-5.headless.@.",
                &format!("0 100 8080 {dashed}"),
            ],
        ),
        ("2.4.3 PTR", "-x 10.244.9.1", &["web-0.headless.@."]),
        ("2.4.3 PTR of IPv6", "-x fd00::9:1", &["six.plain.@."]),
    ])?;
    let reply = subject.ask("_http._tcp.headless.@ SRV")?;
    let addresses: Vec<&str> = reply
        .additional
        .iter()
        .filter_map(|record| record.split(' ').next_back())
        .collect();
    ensure!(
        addresses.len() == 4 && addresses.contains(&"10.244.9.1"),
        "2.4.2 addresses: {}",
        reply.text
    );
    for question in ["web-3.headless.@", "headless-gone.@", "nobody.headless.@"] {
        let reply = subject.ask(question)?;
        ensure!(reply.status == "NXDOMAIN", "2.4.1 {question}: {}", reply.text);
    }
    // Only endpoints without ready ones: as without any.
    ensure!(subject.ask("silent.@")?.data().is_empty(), "2.4.1 not ready");
    Ok(())
}

/// 2.4, of pods: hostname and subdomain, readiness, `publishNotReadyAddresses`
fn pods_of_headless(subject: &Subject) -> anyhow::Result<()> {
    subject.check(&[
        ("2.4.1 hostname and subdomain", "first.named.@", &["10.244.9.21"]),
        ("2.4.1 not ready is left out", "named.@", &["10.244.9.21"]),
        (
            "2.4.1 publishNotReadyAddresses",
            "early.@",
            &["10.244.9.21", "10.244.9.22"],
        ),
        (
            "2.4.1 publishNotReadyAddresses, by hostname",
            "second.early.@",
            &["10.244.9.22"],
        ),
        (
            "2.4.2 named target port",
            "_http._tcp.named.@ SRV",
            &["0 100 8081 first.named.@."],
        ),
        (
            "2.6 pod by address",
            "10-244-9-21.dns-spec.pod.cluster.local",
            &["10.244.9.21"],
        ),
    ])?;
    // The subdomain is another Service's name, so there the pod has no hostname.
    ensure!(
        subject.ask("first.early.@")?.status == "NXDOMAIN",
        "2.4.1 other subdomain"
    );
    ensure!(
        subject.ask("second.named.@")?.status == "NXDOMAIN",
        "2.4.1 not ready by hostname"
    );
    Ok(())
}

/// 2.5
fn aliases(subject: &Subject) -> anyhow::Result<()> {
    let ip = subject.cluster_ip.as_str();
    subject.check(&[
        ("2.5.1 CNAME", "outside.@ CNAME", &["db.example.invalid."]),
        (
            "2.5.1 CNAME, whatever is asked",
            "outside.@ A",
            &["db.example.invalid."],
        ),
        ("2.5.1 CNAME to a name of ours", "inside.@ A", &["cluster.@.", ip]),
        (
            "2.5.1 CNAME to a name of ours, other kind",
            "inside.@ AAAA",
            &["cluster.@."],
        ),
    ])
}

/// What there is not: RFC 2308, RFC 8020.
fn denials(subject: &Subject) -> anyhow::Result<()> {
    let table = [
        ("nobody.@", "NXDOMAIN"),
        ("x.cluster.@", "NXDOMAIN"),
        ("cluster.no-such-namespace.svc.cluster.local", "NXDOMAIN"),
        ("_nothing._tcp.cluster.@ SRV", "NXDOMAIN"),
        ("_http._udp.cluster.@ SRV", "NXDOMAIN"),
        ("nonsense.cluster.local", "NXDOMAIN"),
        // There is something at the name or below it.
        ("cluster.@ TXT", "NOERROR"),
        ("web-0.headless.@ AAAA", "NOERROR"),
        ("@", "NOERROR"),
        ("_tcp.cluster.@", "NOERROR"),
        ("svc.cluster.local", "NOERROR"),
    ];
    for (question, status) in table {
        let reply = subject.ask(question)?;
        ensure!(
            reply.status == status && reply.answer.is_empty(),
            "{question}: {}",
            reply.text
        );
        let soa: Vec<&str> = reply.authority.iter().flat_map(|record| record.split(' ')).collect();
        let (ttl, minimum) = (soa.get(1).copied(), soa.last().copied());
        let is_short = |text: Option<&str>| {
            text.and_then(|text| text.parse::<u32>().ok())
                .is_some_and(|ttl| ttl <= 5)
        };
        let is_denial = soa.first() == Some(&"cluster.local.") && soa.get(2) == Some(&"SOA");
        ensure!(
            is_denial && is_short(ttl) && is_short(minimum),
            "{question}: SOA: {}",
            reply.text
        );
    }
    Ok(())
}

/// RFC 1035, 4343, 6891, 7766.
fn protocol(subject: &Subject) -> anyhow::Result<()> {
    let ip = subject.cluster_ip.as_str();
    subject.check(&[("letters of either case", "ClusTER.DNS-spec.SVC.cluster.LOCAL", &[ip])])?;
    let reply = subject.ask("ClusTER.@")?;
    ensure!(
        reply.answer[0].starts_with("ClusTER."),
        "the name comes back as it was asked: {}",
        reply.text
    );
    ensure!(
        reply.has("aa") && reply.has("qr") && reply.has("rd"),
        "flags: {}",
        reply.text
    );
    let reply = subject.ask("+noedns cluster.@")?;
    ensure!(!reply.text.contains("EDNS"), "EDNS unasked: {}", reply.text);
    let reply = subject.ask("+edns=0 +bufsize=4096 cluster.@")?;
    ensure!(
        reply.text.contains("EDNS: version: 0"),
        "EDNS unanswered: {}",
        reply.text
    );
    ensure!(
        subject.ask("+edns=1 +noednsnegotiation cluster.@")?.status == "BADVERS",
        "EDNS 1"
    );
    for size in ["+noedns", "+bufsize=512", "+bufsize=65000"] {
        let reply = subject.ask(&format!("+ignore {size} many.@"))?;
        let size: usize = reply.text.split("rcvd: ").nth(1).context("no size")?.trim().parse()?;
        ensure!(reply.has("tc") && size <= 1232, "cut: {}", reply.text);
    }
    let reply = subject.ask("many.@")?;
    ensure!(
        reply.answer.len() == 100 && !reply.has("tc"),
        "whole over TCP: {}",
        reply.text
    );
    Ok(())
}

/// What changes in the cluster changes in DNS.
fn changes(subject: &Subject) -> anyhow::Result<()> {
    let patch = |what: &str, patch: &str| {
        let words = ["-n", "dns-spec", "patch", "service", what, "--type=merge", "-p", patch];
        subject.kubectl.run_words(&words).map(drop)
    };
    let name = |name: &str| format!("{name}.{HERE}");
    patch("outside", r#"{"spec":{"externalName":"other.example.invalid"}}"#)?;
    until(
        subject.server,
        &format!("{} CNAME", name("outside")),
        &["other.example.invalid."],
    )?;
    patch(
        "outside",
        r#"{"spec":{"type":"ClusterIP","externalName":null,"ports":[{"port":80}]}}"#,
    )?;
    let service: Value = subject.kubectl.get("-n dns-spec service outside")?;
    let ip = service["spec"]["clusterIP"].as_str().context("no address")?;
    until(subject.server, &name("outside"), &[ip])?;
    subject.kubectl.run("-n dns-spec delete service outside")?;
    until(subject.server, &name("outside"), &[])?;
    ensure!(subject.ask("outside.@")?.status == "NXDOMAIN", "a Service that is gone");
    subject
        .kubectl
        .run("-n dns-spec delete pod first --grace-period=0 --force")?;
    until(subject.server, &name("first.named"), &[])
}

/// Our own server says what it did.
fn counted(subject: &Subject) -> anyhow::Result<()> {
    let Some((server, _)) = &subject.own else { return Ok(()) };
    for name in [
        "requests_total{proto=\"udp\"}",
        "requests_total{proto=\"tcp\"}",
        "responses_total{rcode=\"NXDOMAIN\"}",
    ] {
        ensure!(server.metric(&format!("steadfast_dns_{name}"))? > 0, "{name}");
    }
    Ok(())
}
