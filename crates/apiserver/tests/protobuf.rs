//! Which answers are protobuf, and which are not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/api.rs"]
mod api;

use api::{Answer, Api};
use axum::body::Body;
use futures::StreamExt;
use http::header;
use serde_json::json;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn content_type(answer: &Answer) -> &str {
    answer.headers[header::CONTENT_TYPE].to_str().unwrap()
}

#[tokio::test]
async fn go_clients_get_what_they_ask_for_first() {
    let api = Api::new().await;
    let both = [("accept", "application/vnd.kubernetes.protobuf,application/json")];
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}}).to_string();
    let headers = [both[0], ("content-type", "application/json")];
    let created = api.send("POST", MAPS, &headers, map).await;
    let cases = [
        (created, 201),
        (api.send("GET", &format!("{MAPS}/a"), &both, "").await, 200),
        (api.send("GET", MAPS, &both, "").await, 200),
        (api.send("GET", &format!("{MAPS}/absent"), &both, "").await, 404),
        (
            api.send("GET", &format!("{MAPS}?fieldSelector=x=y"), &both, "").await,
            400,
        ),
        (api.send("DELETE", &format!("{MAPS}/a"), &both, "").await, 200),
        (
            api.send("GET", "/api/v1/namespaces/default/configmaps/a", &both, "")
                .await,
            404,
        ),
    ];
    for (answer, code) in cases {
        assert_eq!(
            (answer.code, content_type(&answer)),
            (code, PROTOBUF),
            "{}",
            answer.text
        );
        assert!(answer.text.starts_with("k8s\0"), "{}", answer.text);
    }
    // Metadata alone has the form too, tables have not.
    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let answer = api.send("GET", MAPS, &[("accept", &metadata)], "").await;
    assert_eq!((answer.code, content_type(&answer)), (200, PROTOBUF));
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(api.send("GET", MAPS, &[("accept", &table)], "").await.code, 406);
    assert_eq!(
        api.send("GET", MAPS, &[("accept", "application/cbor")], "").await.code,
        406
    );
    let cbor = [("content-type", "application/cbor")];
    assert_eq!(api.send("POST", MAPS, &cbor, vec![0xa0]).await.code, 415);
    assert_eq!(
        api.send("PATCH", &format!("{MAPS}/a"), &cbor, vec![0xa0]).await.code,
        415
    );
}

#[tokio::test]
async fn a_watch_is_framed() {
    let api = Api::new().await;
    api.config_map("a", json!({}), json!({"k": "v"})).await;
    let path =
        format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let response = api.open("GET", &path, &[("accept", PROTOBUF)], Body::empty()).await;
    let stated = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert_eq!(stated, "application/vnd.kubernetes.protobuf;stream=watch");
    let mut body = response.into_body().into_data_stream();
    let mut received: Vec<u8> = Vec::new();
    let mut types = Vec::new();
    while types.len() < 2 {
        let piece = tokio::time::timeout(std::time::Duration::from_secs(10), body.next());
        received.extend_from_slice(&piece.await.expect("no event in time").unwrap().unwrap());
        while let Some((length, rest)) = received.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
            if rest.len() < length {
                break;
            }
            // Field 1 is the type.
            let name = usize::from(rest[1]);
            types.push(String::from_utf8(rest[2..2 + name].to_vec()).unwrap());
            received.drain(..4 + length);
        }
    }
    assert_eq!(types, ["ADDED", "BOOKMARK"]);
}
