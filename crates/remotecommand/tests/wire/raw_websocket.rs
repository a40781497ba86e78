//! What other clients than ours send: older subprotocols, base64, pings, half-closed input.

use crate::serving;
use futures::{SinkExt, StreamExt};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// What came, by channel.
type Pieces = Vec<(u8, Vec<u8>)>;
type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Runs `sh -c script`; gives the socket and the protocol that the server chose.
async fn exec(server: SocketAddr, protocols: Option<&str>, query: &str, script: &str) -> (Socket, Option<String>) {
    let script: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let path = format!("api/v1/namespaces/default/pods/web-0/exec?{query}&command=sh&command=-c&command={script}");
    let mut request = format!("ws://{server}/{path}")
        .into_client_request()
        .expect("it is a url");
    if let Some(protocols) = protocols {
        let protocols = protocols.parse().expect("it is a header");
        request.headers_mut().insert("sec-websocket-protocol", protocols);
    }
    let (socket, response) = connect_async(request).await.expect("the server upgrades");
    let chosen = response
        .headers()
        .get("sec-websocket-protocol")
        .map(|name| name.to_str().expect("text").to_owned());
    (socket, chosen)
}

/// All messages but empty ones until the close, which must be a normal one, joined by channel.
async fn read(socket: &mut Socket) -> Pieces {
    let mut pieces: Pieces = Vec::new();
    while let Some(message) = socket.next().await {
        let bytes = match message.expect("the server ends properly") {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.expect("a reason").code), 1000);
                continue;
            }
            other => panic!("unexpected {other:?}"),
        };
        let (channel, payload) = bytes.split_first().expect("each message names its channel");
        match pieces.last_mut().filter(|(last, _)| last == channel) {
            Some((_, bytes)) => bytes.extend_from_slice(payload),
            None if payload.is_empty() => {}
            None => pieces.push((*channel, payload.to_vec())),
        }
    }
    pieces
}

#[tokio::test]
async fn older_protocols_tell_results_in_their_way() {
    let server = serving::start(None).await;
    let success = br#"{"metadata":{},"status":"Success"}"#.to_vec();
    let text = b"command terminated with non-zero exit code: exit status 3".to_vec();
    let table: [(Option<&str>, &str, Pieces); 6] = [
        (
            Some("v5.channel.k8s.io, v4.channel.k8s.io"),
            "echo a",
            vec![(1, b"a\n".to_vec()), (3, success.clone())],
        ),
        (
            Some("x.example.com, v4.channel.k8s.io"),
            "echo a",
            vec![(1, b"a\n".to_vec()), (3, success)],
        ),
        (Some("channel.k8s.io"), "echo a", vec![(1, b"a\n".to_vec())]),
        (Some("channel.k8s.io"), "exit 3", vec![(3, text.clone())]),
        (None, "exit 3", vec![(3, text)]),
        (Some("base64.channel.k8s.io"), "echo a", vec![(b'1', b"YQo=".to_vec())]),
    ];
    for (protocols, script, expected) in table {
        let (mut socket, chosen) = exec(server.address, protocols, "stdout=1&stderr=1", script).await;
        assert_eq!(chosen.is_some(), protocols.is_some());
        assert_eq!(read(&mut socket).await, expected, "{protocols:?} {script}");
    }
}

#[tokio::test]
async fn base64_input_is_decoded() {
    let server = serving::start(None).await;
    let query = "stdin=1&stdout=1&stderr=1";
    let (mut socket, _) = exec(server.address, Some("base64.channel.k8s.io"), query, "head -c 5").await;
    socket.send(Message::text("0aGVsbG8=")).await.unwrap();
    assert_eq!(read(&mut socket).await, [(b'1', b"aGVsbG8=".to_vec())]);
}

#[tokio::test]
async fn input_is_half_closed_in_v5() {
    let server = serving::start(None).await;
    let (mut socket, _) = exec(
        server.address,
        Some("v5.channel.k8s.io"),
        "stdin=1&stdout=1",
        "cat; echo end",
    )
    .await;
    socket.send(Message::binary(&b"\0in "[..])).await.unwrap();
    socket.send(Message::binary(&b"\xff\0"[..])).await.unwrap();
    let pieces = read(&mut socket).await;
    assert_eq!(pieces[0], (1, b"in end\n".to_vec()));
}

#[tokio::test]
async fn pings_are_answered_while_a_command_runs() {
    let server = serving::start(None).await;
    let (mut socket, _) = exec(server.address, Some("v5.channel.k8s.io"), "stdin=1&stdout=1", "read x").await;
    for ping in [&b"1"[..], b"2"] {
        socket.send(Message::Ping(Bytes::from_static(ping))).await.unwrap();
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Pong(answer) => break assert_eq!(answer, ping),
                Message::Binary(first) => assert_eq!(first, &b"\x01"[..], "the sign that the server is there"),
                other => panic!("unexpected {other:?}"),
            }
        }
    }
    socket.send(Message::binary(&b"\0\n"[..])).await.unwrap();
    assert_eq!(read(&mut socket).await.len(), 1);
}
