//! One request on its way through the server: who asks, for what, how the answer is to look, and what to warn of.

use crate::audit::Annotations;
use crate::negotiate::Form;
use crate::options::WriteOptions;
use crate::query::Query;
use crate::user::User;
use api::apply::Writer;
use api::kinds::KindRef;
use http::{HeaderMap, HeaderValue, Response, header};

/// A request for an object or a collection of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: KindRef,
    /// Empty for cluster-wide kinds and for all namespaces.
    pub(crate) namespace: String,
    /// Empty for collections.
    pub(crate) name: String,
    /// Empty for the main resource.
    pub(crate) subresource: String,
    pub(crate) user: User,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) form: Form,
    /// The parameters of a write; those of a read stand in `query`.
    pub(crate) write: WriteOptions,
    /// What the audit log is to tell besides.
    pub(crate) annotations: Annotations,
    warnings: Vec<String>,
}

impl Call {
    pub(crate) fn new(
        kind: impl Into<KindRef>,
        [namespace, name, subresource]: [String; 3],
        user: User,
        query: Query,
        headers: HeaderMap,
        form: Form,
        write: WriteOptions,
    ) -> Self {
        let kind = kind.into();
        let deprecation = kind.custom.as_ref().and_then(|version| version.deprecation.clone());
        Self {
            kind,
            namespace,
            name,
            subresource,
            user,
            query,
            headers,
            form,
            write,
            annotations: Annotations::default(),
            warnings: deprecation.into_iter().collect(),
        }
    }

    /// Adds texts for `Warning` headers.
    pub(crate) fn warn(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            if !self.warnings.contains(&text) {
                self.warnings.push(text);
            }
        }
    }

    /// How many warnings there are.
    pub(crate) fn warned(&self) -> usize {
        self.warnings.len()
    }

    /// Forgets all warnings but the first ones, for a write that is tried again.
    pub(crate) fn forget_warnings_after(&mut self, first: usize) {
        self.warnings.truncate(first);
    }

    /// Puts the warnings onto an answer.
    pub(crate) fn put_warnings<B>(&self, response: &mut Response<B>) {
        for warning in &self.warnings {
            let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = HeaderValue::try_from(format!("299 - \"{text}\"")) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
    }

    /// The name under which written fields are recorded.
    pub(crate) fn manager(&self) -> String {
        if let Some(manager) = &self.write.field_manager {
            return manager.clone();
        }
        let agent = self
            .headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .unwrap_or("unknown");
        let manager = agent.split('/').next().unwrap_or(agent);
        manager.chars().filter(|c| !c.is_control()).take(128).collect()
    }

    /// The writer of this request as field ownership records it.
    pub(crate) fn writer<'a>(&'a self, manager: &'a str, time: &'a str) -> Writer<'a> {
        Writer {
            manager,
            subresource: &self.subresource,
            time,
        }
    }
}
