//! Exec and Attach with streams and terminals.

use crate::bed::{Bed, shell};
use bytes::Bytes;
use cri::v1::*;
use remotecommand::{ClientSession, Endpoint, StreamOptions, TerminalSize, Wire, status};

async fn connect(url: &str, streams: StreamOptions) -> ClientSession {
    let endpoint = Endpoint {
        url: url.parse().expect("a URL"),
        tls: None,
        headers: http::HeaderMap::new(),
        wire: Wire::default(),
    };
    remotecommand::connect(&endpoint, streams).await.expect("connected")
}

/// Reads until `end` has come.
async fn read_until(output: &mut remotecommand::Input, end: &str) -> String {
    let mut text = String::new();
    while !text.contains(end) {
        let bytes = output
            .recv()
            .await
            .unwrap_or_else(|| panic!("the stream ended with {text:?}"));
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

async fn exec_url(bed: &mut Bed, id: &str, script: &str, tty: bool) -> String {
    let cmd = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let request = ExecRequest {
        container_id: id.into(),
        cmd,
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    bed.runtime.exec(request).await.expect("a URL").into_inner().url
}

const PIPES: StreamOptions = StreamOptions {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const TERMINAL: StreamOptions = StreamOptions {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

async fn streams(mut bed: Bed) {
    let sandbox = bed.sandbox("web-0").await;
    let id = bed.run(&sandbox, shell("main", "sleep 1000")).await;
    exec_with_pipes(&mut bed, &id).await;
    exec_with_a_terminal(&mut bed, &id).await;
    exec_that_cannot_run(&mut bed, &id).await;
    attach_with_pipes(&mut bed, &sandbox).await;
    attach_to_a_terminal(&mut bed, &sandbox).await;
}

async fn exec_with_pipes(bed: &mut Bed, id: &str) {
    let url = exec_url(bed, id, "cat; echo end >&2; exit 5", false).await;
    let mut session = connect(&url, PIPES).await;
    let (stdin, mut stdout, mut stderr) = (
        session.stdin.take().expect("in"),
        session.stdout.take().expect("out"),
        session.stderr.take().expect("err"),
    );
    stdin.send(Bytes::from_static(b"hello\n")).await.expect("sent");
    assert_eq!(read_until(&mut stdout, "\n").await, "hello\n");
    drop(stdin);
    assert_eq!(read_until(&mut stderr, "\n").await, "end\n");
    assert_eq!(
        status::exit_code_of(&session.status().await.expect("a status")),
        Some(5)
    );
    // A token works once.
    let endpoint = Endpoint {
        url: url.parse().expect("a URL"),
        tls: None,
        headers: http::HeaderMap::new(),
        wire: Wire::default(),
    };
    assert!(remotecommand::connect(&endpoint, PIPES).await.is_err());
}

async fn exec_with_a_terminal(bed: &mut Bed, id: &str) {
    let url = exec_url(bed, id, "read line; echo got $line; stty size; exit 0", true).await;
    let mut session = connect(&url, TERMINAL).await;
    let (stdin, mut stdout) = (session.stdin.take().expect("in"), session.stdout.take().expect("out"));
    let resize = session.resize.take().expect("sizes");
    resize.send(TerminalSize { width: 91, height: 33 }).await.expect("sent");
    stdin.send(Bytes::from_static(b"word\r")).await.expect("sent");
    let shown = read_until(&mut stdout, "33 91").await;
    assert!(
        shown.starts_with("word") && shown.contains("got word"),
        "a terminal echoes: {shown:?}"
    );
    assert!(status::is_success(&session.status().await.expect("a status")));
}

async fn exec_that_cannot_run(bed: &mut Bed, id: &str) {
    let url = bed.runtime.exec(ExecRequest {
        container_id: id.into(),
        cmd: vec!["nope".into()],
        stdout: true,
        stderr: true,
        ..ExecRequest::default()
    });
    let url = url.await.expect("a URL").into_inner().url;
    let session = connect(
        &url,
        StreamOptions {
            stdout: true,
            stderr: true,
            ..StreamOptions::default()
        },
    )
    .await;
    let result = session.status().await.expect("a status").to_string();
    assert!(result.contains("executable file not found"), "{result}");
}

async fn attach_with_pipes(bed: &mut Bed, sandbox: &str) {
    let mut config = shell("attached", "while read line; do echo \"<$line>\"; done; echo over");
    (config.stdin, config.stdin_once) = (true, true);
    let attached = bed.run(sandbox, config).await;
    let request = AttachRequest {
        container_id: attached.clone(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let url = bed.runtime.attach(request).await.expect("a URL").into_inner().url;
    let mut session = connect(&url, PIPES).await;
    let (stdin, mut stdout) = (session.stdin.take().expect("in"), session.stdout.take().expect("out"));
    stdin.send(Bytes::from_static(b"a b\n")).await.expect("sent");
    assert_eq!(read_until(&mut stdout, "\n").await, "<a b>\n");
    drop(stdin);
    assert_eq!(read_until(&mut stdout, "\n").await, "over\n");
    assert!(status::is_success(&session.status().await.expect("a status")));
    assert_eq!(bed.ended(&attached).await.exit_code, 0);
}

async fn attach_to_a_terminal(bed: &mut Bed, sandbox: &str) {
    let mut config = shell("console", "stty size; read line; echo [$line]; exit 3");
    (config.stdin, config.tty) = (true, true);
    let console = bed.try_create(sandbox, config).await.expect("created");
    bed.runtime
        .start_container(StartContainerRequest {
            container_id: console.clone(),
        })
        .await
        .expect("started");
    let request = AttachRequest {
        container_id: console.clone(),
        stdin: true,
        stdout: true,
        stderr: false,
        tty: true,
    };
    let url = bed.runtime.attach(request).await.expect("a URL").into_inner().url;
    let mut session = connect(&url, TERMINAL).await;
    let (stdin, mut stdout) = (session.stdin.take().expect("in"), session.stdout.take().expect("out"));
    stdin.send(Bytes::from_static(b"typed\r")).await.expect("sent");
    read_until(&mut stdout, "[typed]").await;
    assert_eq!(bed.ended(&console).await.exit_code, 3);
    assert!(bed.output("web-0", "console").contains("[typed]"));
}

#[tokio::test]
async fn streams_are_served() {
    streams(Bed::new(12).await).await;
}

#[tokio::test]
async fn streams_are_served_with_runc() {
    streams(Bed::with(13, Some("/usr/sbin/runc")).await).await;
}

#[tokio::test]
async fn execs_have_an_end() {
    let mut bed = Bed::new(14).await;
    let sandbox = bed.sandbox("web-0").await;
    let id = bed.run(&sandbox, shell("main", "sleep 1000")).await;
    let cmd = ["/bin/sh", "-c", "echo $$ > /tmp/pid; exec sleep 777"]
        .map(str::to_owned)
        .to_vec();
    let late = bed
        .runtime
        .exec_sync(ExecSyncRequest {
            container_id: id.clone(),
            cmd,
            timeout: 1,
        })
        .await
        .expect_err("too late");
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    // The process is killed with it, and nothing stays behind.
    let (_, _, code) = bed
        .exec(
            &id,
            &[
                "/bin/sh",
                "-c",
                "while [ -d /proc/$(cat /tmp/pid) ]; do sleep 0.02; done",
            ],
        )
        .await
        .expect("ran");
    assert_eq!(code, 0);
    // Output is whole, and a child that keeps the pipe does not hold the answer for ever.
    let (out, _, _) = bed
        .exec(
            &id,
            &[
                "/bin/sh",
                "-c",
                "dd if=/dev/zero bs=1024 count=300 2>/dev/null | tail -c 300000; sleep 600 &",
            ],
        )
        .await
        .expect("ran");
    assert_eq!(out.len(), 300_000);
    let mut events = bed
        .runtime
        .get_container_events(GetEventsRequest {})
        .await
        .expect("a stream")
        .into_inner();
    bed.stop(&id, 0).await;
    bed.runtime
        .remove_container(RemoveContainerRequest {
            container_id: id.clone(),
        })
        .await
        .expect("removed");
    for kind in [
        ContainerEventType::ContainerStoppedEvent,
        ContainerEventType::ContainerDeletedEvent,
    ] {
        let event = events.message().await.expect("a message").expect("an event");
        assert_eq!((event.container_event_type(), &event.container_id), (kind, &id));
    }
}

/// Upgrades a connection to the streaming server to SPDY, as kubelets do for port-forward.
async fn spdy(url: &str) -> remotecommand::spdy::Connection {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (address, path) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .expect("a URL");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: portforward.k8s.io\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    let answer = String::from_utf8(answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    remotecommand::spdy::Connection::start(stream, remotecommand::spdy::Role::Client).0
}

/// Says something to a port; what comes back, and what went wrong.
async fn say(
    connection: &remotecommand::spdy::Connection,
    id: &str,
    port: &str,
    text: &'static str,
) -> (String, String) {
    let headers = |kind: &str| {
        [("streamtype", kind), ("port", port), ("requestid", id)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    let mut error = connection.open(headers("error")).await.expect("an error stream");
    let mut data = connection.open(headers("data")).await.expect("a data stream");
    // Where nobody listens, the stream may be reset before all is said.
    if data.writer.send(Bytes::from_static(text.as_bytes())).await.is_ok() {
        drop(data.writer.finish().await);
    }
    let (mut got, mut wrong) = (Vec::new(), Vec::new());
    while let Some(bytes) = data.reader.recv().await {
        got.extend_from_slice(&bytes);
    }
    while let Some(bytes) = error.reader.recv().await {
        wrong.extend_from_slice(&bytes);
    }
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (text(got), text(wrong))
}

#[tokio::test]
async fn ports_of_a_pod_are_forwarded() {
    let mut bed = Bed::new(20).await;
    let sandbox = bed.sandbox("web-0").await;
    let script = "mkfifo /tmp/in; while :; do cat /tmp/in | nc -l -p 8080 >/tmp/in; done";
    bed.run(&sandbox, shell("server", script)).await;
    let request = PortForwardRequest {
        pod_sandbox_id: sandbox,
        port: vec![],
    };
    let url = bed.runtime.port_forward(request).await.expect("a URL").into_inner().url;
    let connection = spdy(&url).await;
    // Until the server listens, and between two rounds of its loop, it takes no connection.
    let begun = std::time::Instant::now();
    let mut id = 1;
    while say(&connection, &id.to_string(), "8080", "ping\n").await != ("ping\n".to_owned(), String::new()) {
        assert!(begun.elapsed().as_secs() < 20, "nothing answers: {}", bed.log());
        id += 1;
    }
    let (got, wrong) = say(&connection, "0", "9", "ping\n").await;
    assert_eq!(got, "");
    assert!(
        wrong.contains("error forwarding port 9") && wrong.contains("refused"),
        "{wrong}"
    );
}
