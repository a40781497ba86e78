//! Plain requests with the identity of a kubeconfig, and what they must be answered with.

use anyhow::{Context, ensure};
use http::{HeaderMap, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(90);

/// What a whole protobuf object begins with.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A client of an API server.
#[derive(Clone)]
pub(crate) struct Api {
    client: kube::Client,
    config: kube::Config,
    headers: Vec<(String, String)>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) text: String,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    /// The body of a success.
    pub(crate) fn ok(&self) -> anyhow::Result<Value> {
        ensure!((200..300).contains(&self.code), "{}: {}", self.code, self.text);
        serde_json::from_str(&self.text).with_context(|| self.text.clone())
    }

    /// The body, whatever the code.
    pub(crate) fn ok_or_status(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.text).with_context(|| self.text.clone())
    }

    pub(crate) fn is(&self, code: u16) -> anyhow::Result<()> {
        ensure!(self.code == code, "{} and not {code}: {}", self.code, self.text);
        Ok(())
    }

    /// A `Status` of this code and reason.
    pub(crate) fn fails(&self, code: u16, reason: &str) -> anyhow::Result<()> {
        self.is(code)?;
        let status: Value = serde_json::from_str(&self.text).with_context(|| self.text.clone())?;
        ensure!(status["kind"] == "Status" && status["status"] == "Failure", "{status}");
        ensure!(status["reason"].as_str().unwrap_or_default() == reason, "{status}");
        ensure!(status["code"] == code, "{status}");
        Ok(())
    }

    /// A `Status` of this code and reason that says these words.
    pub(crate) fn says(&self, code: u16, reason: &str, words: &str) -> anyhow::Result<()> {
        self.fails(code, reason)?;
        let status: Value = serde_json::from_str(&self.text)?;
        let message = status["message"].as_str().unwrap_or_default();
        ensure!(message.contains(words), "{words:?} is not in {message:?}");
        Ok(())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Api {
    pub(crate) async fn new(kubeconfig: &Path) -> anyhow::Result<Self> {
        let config = kube::config::Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default()).await?;
        Self::with(config)
    }

    fn with(mut config: kube::Config) -> anyhow::Result<Self> {
        // Who asks wants the answer, whatever it is.
        config.default_retry = false;
        Ok(Self {
            client: kube::Client::try_from(config.clone())?,
            config,
            headers: Vec::new(),
        })
    }

    /// The same server for a caller who shows nothing, or a token.
    pub(crate) fn stranger(&self, token: Option<&str>) -> anyhow::Result<Self> {
        let mut config = self.config.clone();
        config.auth_info = kube::config::AuthInfo::default();
        config.auth_info.token = token.map(|token| token.to_owned().into());
        Self::with(config)
    }

    /// This client with headers that all its requests carry.
    pub(crate) fn with_headers(&self, headers: &[(&str, &str)]) -> Self {
        let mut this = self.clone();
        let owned = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        this.headers.extend(owned);
        this
    }

    /// This client acting as another user.
    pub(crate) fn acting_as(&self, user: &str) -> Self {
        self.with_headers(&[("Impersonate-User", user)])
    }

    /// kube's own client.
    pub(crate) fn kube(&self) -> kube::Client {
        self.client.clone()
    }

    /// Host and port of the server.
    pub(crate) fn authority(&self) -> anyhow::Result<String> {
        let url = &self.config.cluster_url;
        Ok(url.authority().context("no authority")?.to_string())
    }

    async fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Vec<u8>,
    ) -> anyhow::Result<http::Response<Body>> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let sent = self.client.send(request.body(Body::from(body))?);
        let answered = tokio::time::timeout(DEADLINE, sent).await;
        Ok(answered.with_context(|| format!("{method} {path} is not answered"))??)
    }

    /// Any request.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: impl Into<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let (head, body) = self.open(method, path, headers, body.into()).await?.into_parts();
        let body = tokio::time::timeout(DEADLINE, body.collect()).await??.to_bytes();
        let warnings = head.headers.get_all(header::WARNING).iter();
        let warnings = warnings.filter_map(|text| text.to_str().ok());
        Ok(Answer {
            code: head.status.as_u16(),
            text: String::from_utf8_lossy(&body).into_owned(),
            warnings: warnings.map(str::to_owned).collect(),
            body: body.into(),
            headers: head.headers,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, &[(header::ACCEPT, accept)], "").await
    }

    pub(crate) async fn post(&self, path: &str, object: &Value) -> anyhow::Result<Answer> {
        self.write("POST", path, "application/json", object).await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> anyhow::Result<Answer> {
        self.write("PUT", path, "application/json", object).await
    }

    /// A patch; `kind` is `json`, `merge` or `strategic-merge`.
    pub(crate) async fn patch(&self, path: &str, kind: &str, patch: &Value) -> anyhow::Result<Answer> {
        let kind = format!("application/{kind}-patch+json");
        self.write("PATCH", path, &kind, patch).await
    }

    pub(crate) async fn apply(&self, path: &str, object: &Value) -> anyhow::Result<Answer> {
        self.write("PATCH", path, "application/apply-patch+yaml", object).await
    }

    /// A delete; without options it has no body.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> anyhow::Result<Answer> {
        if options.is_null() {
            return self.send("DELETE", path, &[], "").await;
        }
        self.write("DELETE", path, "application/json", options).await
    }

    /// A write of JSON, called `kind`.
    pub(crate) async fn write(&self, method: &str, path: &str, kind: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(method, path, &[(header::CONTENT_TYPE, kind)], body.to_string())
            .await
    }

    /// A write that takes what others write in between: it changes what it reads, until nobody was faster.
    pub(crate) async fn change(&self, path: &str, change: impl Fn(&mut Value)) -> anyhow::Result<Value> {
        loop {
            let mut object = self.get(path).await?.ok()?;
            change(&mut object);
            let put = self.put(path, &object).await?;
            if put.code != 409 {
                return put.ok();
            }
        }
    }

    /// The events of a watch up to the first that `is_last`.
    pub(crate) async fn events(&self, path: &str, is_last: impl Fn(&Value) -> bool) -> anyhow::Result<Vec<Value>> {
        self.events_as(path, "application/json", is_last).await
    }

    /// The events of a watch in another form.
    pub(crate) async fn events_as(
        &self,
        path: &str,
        accept: &str,
        is_last: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Vec<Value>> {
        let mut watch = self.watch(path, accept).await?;
        let mut events = Vec::new();
        loop {
            let event = watch.next().await?;
            let event = event.with_context(|| format!("the watch ended after {events:?}"))?;
            let last = is_last(&event);
            events.push(event);
            if last {
                return Ok(events);
            }
        }
    }

    /// Opens a watch.
    pub(crate) async fn watch(&self, path: &str, accept: &str) -> anyhow::Result<Watch> {
        let response = self.open("GET", path, &[(header::ACCEPT, accept)], Vec::new()).await?;
        ensure!(
            response.status().is_success(),
            "a watch is answered with {}",
            response.status()
        );
        Ok(Watch {
            kind: response.headers().get(header::CONTENT_TYPE).cloned(),
            body: response.into_body(),
            rest: Vec::new(),
        })
    }
}

/// An open watch.
pub(crate) struct Watch {
    pub(crate) kind: Option<http::HeaderValue>,
    body: Body,
    rest: Vec<u8>,
}

impl Watch {
    /// The next event of a watch in JSON; `None` when it has ended.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// The next event of a watch in protobuf: its bytes.
    pub(crate) async fn next_frame(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some((length, _)) = self.rest.split_first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*length) as usize;
                if self.rest.len() >= end {
                    let frame: Vec<u8> = self.rest.drain(..end).collect();
                    return Ok(Some(frame[4..].to_vec()));
                }
            }
            if !self.read().await? {
                return Ok(None);
            }
        }
    }

    /// Whether more could be read.
    async fn read(&mut self) -> anyhow::Result<bool> {
        let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await;
        let Some(frame) = frame.context("no event in time")? else {
            return Ok(false);
        };
        self.rest
            .extend_from_slice(frame?.data_ref().map_or(&[][..], |data| data));
        Ok(true)
    }
}
