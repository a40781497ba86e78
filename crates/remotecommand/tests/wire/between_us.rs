//! Our client and our server, over each wire, directly and through a proxy.

use crate::serving::{self, Running};
use bytes::Bytes;
use remotecommand::{ClientSession, ConnectError, Endpoint, Input, StreamOptions, TerminalSize, Wire, connect, status};
use serde_json::Value;
use std::time::Duration;

const WIRES: [Wire; 2] = [Wire::WebSocket, Wire::Spdy];
const ALL: StreamOptions = StreamOptions {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const PATIENCE: Duration = Duration::from_secs(60);

/// A direct server, and one behind a proxy.
async fn servers(wire: Wire) -> Vec<(Running, Option<Running>)> {
    let behind = serving::start(None).await;
    let proxy = serving::start(Some((behind.address, wire))).await;
    vec![(serving::start(None).await, None), (proxy, Some(behind))]
}

async fn exec(
    server: &Running,
    wire: Wire,
    streams: StreamOptions,
    command: &[&str],
) -> Result<ClientSession, ConnectError> {
    let mut query = format!(
        "stdin={}&stdout={}&stderr={}&tty={}",
        streams.stdin, streams.stdout, streams.stderr, streams.tty
    );
    for word in command {
        let hex: String = word.bytes().map(|byte| format!("%{byte:02x}")).collect();
        query.push_str(&format!("&command={hex}"));
    }
    let url = format!(
        "http://{}/api/v1/namespaces/default/pods/web-0/exec?{query}",
        server.address
    );
    let endpoint = Endpoint {
        url: url.parse().expect("it is a url"),
        tls: None,
        headers: Default::default(),
        wire,
    };
    connect(&endpoint, streams).await
}

async fn all(input: Option<Input>) -> Vec<u8> {
    let mut all = Vec::new();
    let Some(mut input) = input else { return all };
    while let Some(bytes) = input.recv().await {
        all.extend_from_slice(&bytes);
    }
    all
}

/// Sends `stdin`, reads everything.
async fn talk(mut session: ClientSession, stdin: Option<Vec<u8>>) -> (Vec<u8>, Vec<u8>, Value) {
    let (to, stdout, stderr) = (session.stdin.take(), session.stdout.take(), session.stderr.take());
    let sending = async {
        let Some(to) = to else { return };
        for piece in stdin.unwrap_or_default().chunks(10_000) {
            to.send(Bytes::copy_from_slice(piece)).await.expect("the command reads");
        }
    };
    let talking = async { tokio::join!(sending, all(stdout), all(stderr), session.status()) };
    let ((), stdout, stderr, status) = tokio::time::timeout(PATIENCE, talking).await.expect("it ends");
    (stdout, stderr, status.expect("there is a result"))
}

#[tokio::test]
async fn outputs_are_apart_and_exit_codes_are_told() {
    for wire in WIRES {
        for (server, _behind) in servers(wire).await {
            let streams = StreamOptions { stdin: false, ..ALL };
            let script = ["sh", "-c", "echo out; echo err >&2; exit 3"];
            let session = exec(&server, wire, streams, &script).await.unwrap();
            let (stdout, stderr, result) = talk(session, None).await;
            assert_eq!(
                (stdout.as_slice(), stderr.as_slice()),
                (&b"out\n"[..], &b"err\n"[..]),
                "{wire:?}"
            );
            assert_eq!(result, status::exit_code(3));
        }
    }
}

#[tokio::test]
async fn end_of_input_reaches_the_command() {
    for wire in WIRES {
        for (server, _behind) in servers(wire).await {
            let session = exec(&server, wire, ALL, &["cat"]).await.unwrap();
            let (stdout, stderr, result) = talk(session, Some(b"hello".to_vec())).await;
            assert_eq!(
                (stdout.as_slice(), stderr.as_slice()),
                (&b"hello"[..], &b""[..]),
                "{wire:?}"
            );
            assert_eq!(result, status::success());
        }
    }
}

#[tokio::test]
async fn much_data_goes_both_ways() {
    let much: Vec<u8> = (0..3_000_000u32).flat_map(|i| i.to_le_bytes()).collect();
    for wire in WIRES {
        for (server, _behind) in servers(wire).await {
            let session = exec(&server, wire, ALL, &["cat"]).await.unwrap();
            let (stdout, _, result) = talk(session, Some(much.clone())).await;
            assert!(stdout == much, "{wire:?}: {} of {} bytes", stdout.len(), much.len());
            assert_eq!(result, status::success());
        }
    }
}

#[tokio::test]
async fn slow_reader_stops_the_command() {
    for wire in WIRES {
        let server = serving::start(None).await;
        let streams = StreamOptions {
            stdin: false,
            stderr: false,
            ..ALL
        };
        let mut session = exec(&server, wire, streams, &["head", "-c", "50000000", "/dev/zero"])
            .await
            .unwrap();
        let mut stdout = session.stdout.take().unwrap();
        let first = stdout.recv().await.unwrap().len();
        let rest = tokio::time::timeout(PATIENCE, all(Some(stdout))).await.unwrap().len();
        assert_eq!(first + rest, 50_000_000, "{wire:?}");
        assert_eq!(session.status().await.unwrap(), status::success());
    }
}

#[tokio::test]
async fn command_that_leaves_its_input_unread_ends() {
    for wire in WIRES {
        for (server, _behind) in servers(wire).await {
            let mut session = exec(&server, wire, ALL, &["true"]).await.unwrap();
            let stdin = session.stdin.take().unwrap();
            let feeding = async { while stdin.send(Bytes::from_static(&[0; 10_000])).await.is_ok() {} };
            let ended = async { tokio::join!(feeding, session.status()).1 };
            let result = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap();
            assert_eq!(result, status::success(), "{wire:?}");
        }
    }
}

#[tokio::test]
async fn terminal_is_resized() {
    for wire in WIRES {
        for (server, _behind) in servers(wire).await {
            let streams = StreamOptions {
                stdin: true,
                stdout: true,
                stderr: false,
                tty: true,
            };
            let mut session = exec(&server, wire, streams, &["sizes"]).await.unwrap();
            let resize = session.resize.take().unwrap();
            resize.send(TerminalSize { width: 80, height: 24 }).await.unwrap();
            resize.send(TerminalSize { width: 100, height: 30 }).await.unwrap();
            let (stdout, _, result) = talk(session, None).await;
            assert_eq!(stdout, b"80x24\n100x30\n", "{wire:?}");
            assert_eq!(result, status::success());
        }
    }
}

#[tokio::test]
async fn refusal_is_handed_on() {
    for wire in WIRES {
        let server = serving::start(None).await;
        let refused = exec(&server, wire, ALL, &["refuse"]).await.unwrap_err();
        let ConnectError::Refused { status, body, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!(status, 404);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["message"], "no such container here");
    }
}

#[tokio::test]
async fn lost_client_is_noticed() {
    for wire in WIRES {
        for (mut server, behind) in servers(wire).await {
            let session = exec(&server, wire, ALL, &["sleep", "1000"]).await.unwrap();
            drop(session);
            let notes = behind.map_or(&mut server.notes, |behind| Box::leak(Box::new(behind.notes)));
            let note = tokio::time::timeout(PATIENCE, notes.recv())
                .await
                .expect("it is noticed");
            assert_eq!(note.unwrap(), "client is gone", "{wire:?}");
        }
    }
}

#[tokio::test]
async fn plain_request_is_refused() {
    let server = serving::start(None).await;
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(driver.await) });
    let request =
        http::Request::get("/api/v1/namespaces/default/pods/web-0/exec?command=ls&stdout=1").header("host", "x");
    let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 400);
}
