//! Questions to an authorizer: `authorizer.group('apps').resource('deployments').check('create').allowed()`.

use crate::evaluate::{EvalError, failed};
use crate::value::Value;
use std::fmt;
use std::sync::Arc;

/// Somebody who knows who may do what.
pub trait Authorizer: fmt::Debug + Send + Sync {
    /// Whether that is allowed.
    fn decide(&self, question: &Question) -> Decision;
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of the service account that it is about; `None` for the user of the request.
    pub service_account: Option<(String, String)>,
    /// What would be done.
    pub verb: String,
    /// The path of something that is no resource.
    pub path: Option<String>,
    /// API group of the resource.
    pub group: String,
    /// Plural of the resource.
    pub resource: String,
    /// Its part, if any.
    pub subresource: String,
    /// Namespace, if any.
    pub namespace: String,
    /// Name, if any.
    pub name: String,
    /// Fields that objects are selected by.
    pub field_selector: String,
    /// Labels that objects are selected by.
    pub label_selector: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it is allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong, if the answer is none.
    pub error: String,
}

/// A question that is being put together.
#[derive(Clone, Debug)]
pub struct Inquiry {
    of: Stage,
    asked: Arc<dyn Authorizer>,
    question: Question,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
const PATH: &str = "kubernetes.authorization.PathCheck";
const GROUP: &str = "kubernetes.authorization.GroupCheck";
const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

/// The types of this file, as signatures name them.
pub(crate) const TYPES: [&str; 5] = [AUTHORIZER, PATH, GROUP, RESOURCE, DECISION];

/// The type of `authorizer`.
pub const AUTHORIZER_TYPE: crate::Type = crate::Type::Opaque(AUTHORIZER);
/// The type of `authorizer.requestResource`.
pub const RESOURCE_CHECK_TYPE: crate::Type = crate::Type::Opaque(RESOURCE);

impl Inquiry {
    /// `authorizer`.
    pub fn authorizer(asked: Arc<dyn Authorizer>) -> Self {
        Self {
            of: Stage::Authorizer,
            asked,
            question: Question::default(),
        }
    }

    /// `authorizer.requestResource`: a question that lacks nothing but its verb.
    pub fn resource(asked: Arc<dyn Authorizer>, question: Question) -> Self {
        Self {
            of: Stage::Resource,
            asked,
            question,
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.of {
            Stage::Authorizer => AUTHORIZER,
            Stage::Path => PATH,
            Stage::Group => GROUP,
            Stage::Resource => RESOURCE,
        }
    }

    fn call(&self, function: &str, arguments: &[&str]) -> Result<Option<Value>, EvalError> {
        let mut next = self.clone();
        let question = &mut next.question;
        match (self.of, function, arguments) {
            (Stage::Authorizer, "path", [path]) => {
                if path.is_empty() {
                    return Err(failed("path must not be empty"));
                }
                question.path = Some((*path).to_owned());
                next.of = Stage::Path;
            }
            (Stage::Authorizer, "group", [group]) => {
                (*group).clone_into(&mut question.group);
                next.of = Stage::Group;
            }
            (Stage::Authorizer, "serviceAccount", [namespace, name]) => {
                question.service_account = Some(((*namespace).to_owned(), (*name).to_owned()));
            }
            (Stage::Group, "resource", [resource]) => {
                (*resource).clone_into(&mut question.resource);
                next.of = Stage::Resource;
            }
            (Stage::Resource, "subresource", [text]) => (*text).clone_into(&mut question.subresource),
            (Stage::Resource, "namespace", [text]) => (*text).clone_into(&mut question.namespace),
            (Stage::Resource, "name", [text]) => (*text).clone_into(&mut question.name),
            (Stage::Resource, "fieldSelector", [text]) => (*text).clone_into(&mut question.field_selector),
            (Stage::Resource, "labelSelector", [text]) => (*text).clone_into(&mut question.label_selector),
            (Stage::Resource | Stage::Path, "check", [verb]) => {
                (*verb).clone_into(&mut question.verb);
                let decision = self.asked.decide(question);
                return Ok(Some(Value::Decision(Arc::new(decision))));
            }
            _ => return Ok(None),
        }
        Ok(Some(Value::Inquiry(Arc::new(next))))
    }
}

/// What a check costs: it looks through all roles.
pub(crate) const CHECK_COST: u64 = 350_000;

/// Calls a method of these types; `None` if it is none of theirs.
pub(crate) fn call(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    match values.split_first() {
        Some((Value::Inquiry(inquiry), arguments)) => {
            let texts: Vec<&str> = arguments
                .iter()
                .filter_map(|argument| match argument {
                    Value::String(text) => Some(&**text),
                    _ => None,
                })
                .collect();
            inquiry.call(function, &texts)
        }
        Some((Value::Decision(decision), [])) => Ok(Some(match function {
            "allowed" => Value::Bool(decision.allowed),
            "reason" => Value::text(decision.reason.as_str()),
            "errored" => Value::Bool(!decision.error.is_empty()),
            "error" => Value::text(decision.error.as_str()),
            _ => return Ok(None),
        })),
        _ => Ok(None),
    }
}
