//! Which webhooks are about a write, and what they are asked.

use super::Review;
use super::concern::{Shown, name_of, namespace_object, objects, request, subject, target};
use crate::create::text;
use crate::names;
use crate::policies::{Sort, is_exempt};
use crate::status::{Outcome, status};
use crate::webhooks::{self, Verdict};
use api::error::Status;
use api::kinds::KindRef;
use api::policy::Policy;
use api::policy::matching::{Match, matches};
use serde_json::{Value, json};

/// A webhook that is to be asked.
pub(super) struct Asked {
    /// Its place among all webhooks.
    pub(super) name: String,
    pub(super) hook: Value,
    /// The kind under which it wants to see the object, if another than the object's.
    pub(super) kind: Option<KindRef>,
}

/// The webhooks that are about a write, in the order in which they are asked.
pub(super) async fn concerned(review: &Review<'_>, sort: Sort, shown: &Shown) -> Outcome<Vec<Asked>> {
    let call = review.call;
    let mut found = Vec::new();
    if is_exempt(&call.kind) || review.is_own() {
        return Ok(found);
    }
    let hooks = review.server.policies.view.webhooks(sort);
    if hooks.is_empty() {
        return Ok(found);
    }
    let namespace = namespace_object(review).await?;
    let others = review.server.same_objects(&call.kind);
    let name = name_of(review, shown);
    let target = target(review, shown, &name, &namespace);
    for hook in hooks {
        let name = text(&hook["name"]).unwrap_or_default().to_owned();
        if hook["rules"].as_array().is_none_or(Vec::is_empty) {
            continue;
        }
        let mut resources = hook.clone();
        resources["resourceRules"] = hook["rules"].clone();
        let kind = match matches(&resources, &target, &others) {
            Ok(Match::No) => continue,
            Ok(Match::Yes) => None,
            Ok(Match::As(kind)) => Some(kind),
            Err(why) => return Err(failed(&name, &why)),
        };
        found.push(Asked { name, hook, kind });
    }
    Ok(found)
}

impl Asked {
    /// Asks the webhook, if its conditions hold. `None` if it has nothing to say: it is not about the write after all,
    /// or it fails and that is taken lightly.
    pub(super) async fn ask(&self, review: &Review<'_>, shown: &Shown) -> Outcome<Option<Verdict>> {
        let hook = &self.hook;
        let is_fatal = hook["failurePolicy"] != "Ignore";
        match self.applies(review, shown).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(None),
            Ok(Err(_)) if !is_fatal => return Ok(None),
            Ok(Err(why)) => return Err(review.forbidden(&shown.object, &why)),
            Err(status) => return Err(status),
        }
        if review.dry_run && !matches!(hook["sideEffects"].as_str(), Some("None" | "NoneOnDryRun")) {
            let message = format!("admission webhook {:?} does not support dry run", self.name);
            return Err(status(400, "BadRequest", message, json!({})));
        }
        let request = review_request(review, shown, self.kind.as_ref())?;
        match webhooks::ask(review.server, hook, &request).await? {
            Ok(verdict) => Ok(Some(verdict)),
            Err(why) if is_fatal => Err(failed(&self.name, &why)),
            Err(why) => {
                tracing::warn!(webhook = self.name, "a webhook was not heard: {why}");
                Ok(None)
            }
        }
    }

    async fn applies(&self, review: &Review<'_>, shown: &Shown) -> Outcome<Result<bool, String>> {
        let conditions = &self.hook["matchConditions"];
        if conditions.as_array().is_none_or(Vec::is_empty) {
            return Ok(Ok(true));
        }
        let policy = Policy::compile(&json!({ "matchConditions": conditions }));
        let namespace = namespace_object(review).await?;
        let subject = subject(review, shown, &namespace, self.kind.as_ref())?;
        Ok(policy.applies(&subject, None))
    }

    /// The refusal of a webhook.
    pub(super) fn denied(&self, said: &Value) -> Box<Status> {
        let by = format!("admission webhook {:?} denied the request", self.name);
        let message = match (text(&said["message"]), text(&said["reason"])) {
            (Some(message), _) => format!("{by}: {message}"),
            (None, Some(reason)) => format!("{by}: {reason}"),
            (None, None) => format!("{by} without explanation"),
        };
        let code = said["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let reason = text(&said["reason"]).and_then(|given| REASONS.into_iter().find(|known| *known == given));
        let details = said["details"].clone();
        status(code.unwrap_or(0).max(400), reason.unwrap_or_default(), message, details)
    }
}

/// The reasons that an answer may have.
const REASONS: [&str; 19] = [
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "AlreadyExists",
    "Conflict",
    "Gone",
    "Invalid",
    "ServerTimeout",
    "Timeout",
    "TooManyRequests",
    "BadRequest",
    "MethodNotAllowed",
    "NotAcceptable",
    "RequestEntityTooLarge",
    "UnsupportedMediaType",
    "InternalError",
    "Expired",
    "ServiceUnavailable",
    "StoreReadError",
];

/// 500 for a webhook that cannot be heard.
pub(super) fn failed(name: &str, why: &str) -> Box<Status> {
    let message = format!("failed calling webhook {name:?}: {why}");
    let details = json!({"causes": [{ "message": message }]});
    status(
        500,
        "InternalError",
        format!("Internal error occurred: {message}"),
        details,
    )
}

/// `request` of a review.
fn review_request(review: &Review<'_>, shown: &Shown, kind: Option<&KindRef>) -> Outcome<Value> {
    let name = name_of(review, shown);
    let mut told = request(review, shown, &name, kind).to_json();
    let [object, old] = objects(review, shown, kind)?;
    told["uid"] = json!(names::uid());
    told["object"] = object;
    told["oldObject"] = old;
    Ok(told)
}
