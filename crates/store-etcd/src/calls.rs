//! The calls of etcd, each to whichever member answers.

use crate::etcdserverpb as pb;
use crate::failure::Failure;
use crate::members::{Called, Member, Members};
use crate::wire;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::watch_client::WatchClient;
use store::Revision;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// A member that has no leader refuses, rather than letting us wait for what will never come.
fn to_led<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("hasleader", MetadataValue::from_static("true"));
    request
}

fn kv(channel: Channel) -> KvClient<Channel> {
    // Answers are as large as the objects in them.
    KvClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// The latest revision; the leader confirms it.
pub(crate) async fn latest(members: &Members) -> Result<Revision, Failure> {
    let nothing = pb::RangeRequest {
        key: b"\0".to_vec(),
        keys_only: true,
        ..pb::RangeRequest::default()
    };
    let response = range(members, nothing).await?;
    Ok(wire::revision(response.header.as_ref()))
}

pub(crate) async fn range(members: &Members, request: pb::RangeRequest) -> Result<pb::RangeResponse, Failure> {
    let call = |channel: Channel| {
        let request = to_led(request.clone());
        async move { Ok(kv(channel).range(request).await?.into_inner()) }
    };
    members.call(call).await.outcome
}

pub(crate) async fn txn(members: &Members, request: pb::TxnRequest) -> Called<pb::TxnResponse> {
    let call = |channel: Channel| {
        let request = to_led(request.clone());
        async move { Ok(kv(channel).txn(request).await?.into_inner()) }
    };
    members.call(call).await
}

pub(crate) async fn compact(members: &Members, revision: Revision) -> Result<(), Failure> {
    let request = pb::CompactionRequest {
        revision: wire::signed(revision),
    };
    let call = |channel: Channel| async move { kv(channel).compact(to_led(request)).await.map(drop) };
    members.call(call).await.outcome
}

pub(crate) async fn grant(members: &Members, ttl_seconds: i64) -> Result<i64, Failure> {
    let request = pb::LeaseGrantRequest { ttl: ttl_seconds };
    let call = |channel: Channel| async move {
        let response = LeaseClient::new(channel).lease_grant(to_led(request)).await?;
        Ok(response.into_inner().id)
    };
    members.call(call).await.outcome
}

pub(crate) async fn revoke(members: &Members, id: i64) -> Called<()> {
    let request = pb::LeaseRevokeRequest { id };
    let call =
        |channel: Channel| async move { LeaseClient::new(channel).lease_revoke(to_led(request)).await.map(drop) };
    members.call(call).await
}

/// The time that a lease has again; 0 if there is no such lease.
pub(crate) async fn keep_alive(members: &Members, id: i64) -> Result<i64, Failure> {
    let call = |channel: Channel| async move {
        let once = futures::stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let mut answers = LeaseClient::new(channel)
            .lease_keep_alive(to_led(once))
            .await?
            .into_inner();
        let answer = answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the answer is missing"))?;
        Ok(answer.ttl)
    };
    members.call(call).await.outcome
}

/// All changes of all keys from a revision on, told by one member.
pub(crate) async fn watch(member: &Member, from: Revision) -> Result<Streaming<pb::WatchResponse>, Failure> {
    let (key, range_end) = wire::everything();
    let create = pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: wire::signed(from),
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    // The watch ends when the requests end.
    let requests = futures::StreamExt::chain(futures::stream::iter([request]), futures::stream::pending());
    let mut client = WatchClient::new(member.channel.clone()).max_decoding_message_size(usize::MAX);
    let opened = client.watch(to_led(requests)).await;
    opened
        .map(tonic::Response::into_inner)
        .map_err(|status| Failure::new(&member.endpoint, &status))
}
