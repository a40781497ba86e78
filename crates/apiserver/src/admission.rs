//! Admission: what the cluster adds to a write, and what it refuses, as an ordered list of small steps.
//!
//! ```text
//!  decoded, defaulted ──▶ mutate ──▶ strategy, validation ──▶ validate ──▶ committed together with what
//!                                                                          the steps found necessary
//! ```
//!
//! Each step is a file of its own, named as upstream names the plug-in. Its `mutate` may change the object, its
//! `validate` sees what would be stored. A step looks at nothing but the [`Review`], the object and the store, so the
//! order of the two lists below is all there is to know of how they come together. It is upstream's order.

mod certificate_approval;
mod certificate_signing;
mod certificate_subject_restriction;
mod concern;
mod connect;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod limit_ranger;
mod mutating_admission_policy;
mod mutating_admission_webhook;
mod namespace_lifecycle;
pub(crate) mod node_restriction;
mod persistent_volume_claim_resize;
mod pod_security;
mod priority;
mod resource_quota;
mod role_escalation;
mod runtime_class;
mod service_account;
mod storage_object_in_use;
mod token_secret;
mod validating_admission_policy;
mod validating_admission_webhook;
mod webhook;

use crate::bootstrap::OWN_USER;
use crate::call::Call;
use crate::commit::Change;
use crate::create::text;
use crate::server::Server;
use crate::status::Outcome;
use api::error::Status;
use api::kinds::{self, Kind};
use serde_json::Value;

pub(crate) use connect::connect;
pub(crate) use default_storage_class::IS_DEFAULT_ANNOTATION as DEFAULT_CLASS_ANNOTATION;
pub(crate) use namespace_lifecycle::live_namespace;
pub(crate) use service_account::default_service_account;
pub(crate) use validating_admission_policy::validate_sent;

/// What is done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// Nothing is written: the call goes through to a pod, or whatever else is behind this server.
    Connect,
}

impl Operation {
    /// The name in rules.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// A write on its way into the store, as the steps see it.
#[derive(Debug)]
pub(crate) struct Review<'a> {
    pub(crate) server: &'a Server,
    /// Who asks for what: user, kind, namespace, subresource, options. A name may be missing (`generateName`, or a
    /// collection); the object has it.
    pub(crate) call: &'a Call,
    pub(crate) operation: Operation,
    /// What is stored now; `None` for a new object.
    pub(crate) old: Option<&'a Value>,
    /// Whether nothing will be stored.
    pub(crate) dry_run: bool,
    /// Texts for `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// Lets the steps change an object that is created or updated.
pub(crate) async fn mutate(review: &mut Review<'_>, object: &mut Value) -> Outcome<()> {
    namespace_lifecycle::mutate(review, object).await?;
    limit_ranger::mutate(review, object).await?;
    service_account::mutate(review, object).await?;
    token_secret::mutate(review, object).await?;
    priority::mutate(review, object).await?;
    default_toleration_seconds::mutate(review, object);
    default_storage_class::mutate(review, object).await?;
    storage_object_in_use::mutate(review, object);
    runtime_class::mutate(review, object).await?;
    default_ingress_class::mutate(review, object).await?;
    mutating_admission_policy::mutate(review, object).await?;
    mutating_admission_webhook::mutate(review, object).await
}

/// Asks the steps whether what would be stored (of a delete: what is stored) may be so. A step that relies on other
/// objects adds to `change` what must hold or be written along with this one.
pub(crate) async fn validate(review: &mut Review<'_>, object: &Value, change: &mut Change) -> Outcome<()> {
    namespace_lifecycle::validate(review, object)?;
    node_restriction::validate(review, object)?;
    role_escalation::validate(review, object).await?;
    limit_ranger::validate(review, object).await?;
    pod_security::validate(review, object).await?;
    priority::validate(review, object).await?;
    persistent_volume_claim_resize::validate(review, object).await?;
    runtime_class::validate(review, object).await?;
    certificate_approval::validate(review, object).await?;
    certificate_signing::validate(review, object).await?;
    certificate_subject_restriction::validate(review, object)?;
    validating_admission_policy::validate(review, object).await?;
    validating_admission_webhook::validate(review, object).await?;
    // Last, so that nothing is charged for what another step refuses.
    resource_quota::validate(review, object, change).await
}

impl<'a> Review<'a> {
    pub(crate) fn new(server: &'a Server, call: &'a Call, operation: Operation, old: Option<&'a Value>) -> Self {
        Self {
            server,
            call,
            operation,
            old,
            dry_run: call.write.dry_run,
            warnings: Vec::new(),
        }
    }

    /// Whether the write is one of these operations on the main resource of a kind.
    pub(crate) fn is(&self, group: &str, kind: &str, operations: &[Operation]) -> bool {
        self.is_of(group, kind, "", operations)
    }

    /// Whether the write is one of these operations on a subresource of a kind.
    pub(crate) fn is_of(&self, group: &str, kind: &str, subresource: &str, operations: &[Operation]) -> bool {
        let (of, part) = (&self.call.kind, &self.call.subresource);
        of.kind == kind && of.group == group && part == subresource && operations.contains(&self.operation)
    }

    /// Whether the server itself writes: it must be able to, whatever whoever runs the cluster wants asked.
    pub(crate) fn is_own(&self) -> bool {
        self.call.user.name == OWN_USER
    }

    /// 403 with these words.
    pub(crate) fn forbidden(&self, object: &Value, why: &str) -> Box<Status> {
        let metadata = &object["metadata"];
        let name = text(&metadata["name"])
            .or_else(|| text(&metadata["generateName"]))
            .unwrap_or("");
        Box::new(Status::forbidden(&self.call.kind, name, why))
    }
}

/// Something that is sent to a subresource, with the kind that it is.
pub(crate) fn sent(object: &Value, api_version: &str, kind: &str) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), Value::from(api_version));
        fields.insert("kind".to_owned(), Value::from(kind));
    }
    object
}

/// A kind that the server itself needs.
pub(crate) fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::by_resource(group, "v1", plural).expect("the table of kinds has all that the server itself needs")
}
