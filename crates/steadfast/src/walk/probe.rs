//! What the walk looks at from outside: names, pages, commands in pods.

use anyhow::{Context, bail, ensure};
use api::k8s::api::core::v1::Pod;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use kube::Api;
use kube::api::AttachParams;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long a server may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// The addresses of `name`, as the server at `dns` knows them, sorted; none if there is no such name.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn resolve(dns: IpAddr, name: &str) -> anyhow::Result<Vec<IpAddr>> {
    let answers = query(dns, name, RecordType::A).await?;
    let mut addresses: Vec<IpAddr> = answers
        .into_iter()
        .filter_map(|data| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            _ => None,
        })
        .collect();
    addresses.sort();
    Ok(addresses)
}

/// The targets of a SRV name as `name:port`, sorted.
///
/// # Errors
/// When the server does not answer.
pub(super) async fn service_targets(dns: IpAddr, name: &str) -> anyhow::Result<Vec<String>> {
    let answers = query(dns, name, RecordType::SRV).await?;
    let mut targets: Vec<String> = answers
        .into_iter()
        .filter_map(|data| match data {
            RData::SRV(srv) => Some(format!("{}:{}", srv.target, srv.port)),
            _ => None,
        })
        .collect();
    targets.sort();
    Ok(targets)
}

async fn query(dns: IpAddr, name: &str, kind: RecordType) -> anyhow::Result<Vec<RData>> {
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(format!("{name}."))?, kind));
    let question = question.to_vec()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect((dns, 53)).await?;
    socket.send(&question).await?;
    let mut buffer = vec![0; 4096];
    let length = timeout(LIMIT, socket.recv(&mut buffer))
        .await
        .with_context(|| format!("the DNS server {dns} does not answer"))?
        .with_context(|| format!("no DNS server at {dns}"))?;
    let answer = Message::from_vec(&buffer[..length])?;
    ensure!(buffer[..2] == question[..2], "the DNS server answered another question");
    Ok(answer.answers.into_iter().map(|record| record.data).collect())
}

/// What a web server at port 80 of `address` shows at `/`.
///
/// # Errors
/// When nobody serves there.
pub(super) async fn page(address: IpAddr) -> anyhow::Result<String> {
    let fetch = async {
        let mut stream = TcpStream::connect((address, 80)).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(LIMIT, fetch).await.context("no answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("not an HTTP answer")?;
    if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.0 200") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

/// Runs a shell script in a pod, as `kubectl exec` does, and returns its standard output.
///
/// # Errors
/// When it cannot be run or does not end with success.
pub(super) async fn shell(pods: Api<Pod>, pod: String, script: String) -> anyhow::Result<String> {
    let parameters = AttachParams::default().stdout(true).stderr(true);
    let mut process = pods.exec(&pod, ["/bin/sh", "-c", &script], &parameters).await?;
    let (mut out, mut err) = (String::new(), String::new());
    let mut stdout = process.stdout().context("no standard output")?;
    let mut stderr = process.stderr().context("no standard error")?;
    let status = process.take_status().context("no status")?;
    tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err))?;
    super::expect_success(status.await).with_context(|| format!("{out}{err}"))?;
    process.join().await?;
    Ok(out)
}
