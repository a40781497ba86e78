//! What the labels of a namespace ask for.

use crate::error::FieldError;
use serde_json::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict the standards are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything goes.
    Privileged,
    /// Nothing that is known to break out of a container.
    Baseline,
    /// Nothing but what hardened pods need.
    Restricted,
}

/// A version of the standards: that of a minor version of Kubernetes, or the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(Option<u32>);

/// A level of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// How strict.
    pub level: Level,
    /// As of when.
    pub version: Version,
}

/// What a namespace wants done about pods that do not comply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What is refused.
    pub enforce: Bound,
    /// What is written into the audit log.
    pub audit: Bound,
    /// What authors are warned of.
    pub warn: Bound,
}

impl Version {
    /// The minor version; `None` is the latest.
    pub fn minor(self) -> Option<u32> {
        self.0
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self(None));
        }
        let minor = text.strip_prefix("v1.")?;
        let is_canonical = minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        is_canonical.then(|| minor.parse().ok().map(|minor| Self(Some(minor))))?
    }
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version.0 {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// The policy of a namespace's labels, and what is wrong with them. A label that cannot be read is taken as the
    /// strictest where pods are refused, and as nothing where they are only talked about.
    pub fn of(labels: &Value) -> (Self, Vec<FieldError>) {
        let nothing = Bound {
            level: Level::Privileged,
            version: Version(None),
        };
        let (mut policy, mut errors) = (
            Self {
                enforce: nothing,
                audit: nothing,
                warn: nothing,
            },
            Vec::new(),
        );
        read(labels, "enforce", Level::Restricted, &mut policy.enforce, &mut errors);
        let enforces = errors.is_empty() && labels[format!("{PREFIX}enforce")].is_string();
        read(labels, "audit", Level::Privileged, &mut policy.audit, &mut errors);
        read(labels, "warn", Level::Privileged, &mut policy.warn, &mut errors);
        // What is refused later, in the pods of a template, is better told now.
        if enforces && labels[format!("{PREFIX}warn")].is_null() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if labels[format!("{PREFIX}warn-version")].is_null() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether nothing is checked at all.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn]
            .iter()
            .all(|bound| bound.level == Level::Privileged)
    }
}

/// Reads the two labels of a mode.
fn read(labels: &Value, mode: &str, if_unreadable: Level, bound: &mut Bound, errors: &mut Vec<FieldError>) {
    let mut wrong = |label: &str, text: &str, detail: &str| {
        let field = format!("metadata.labels[{label}]");
        errors.push(FieldError::invalid(field, text, detail));
    };
    let label = format!("{PREFIX}{mode}");
    if let Some(text) = labels[&label].as_str() {
        bound.level = Level::parse(text).unwrap_or_else(|| {
            wrong(&label, text, "must be one of privileged, baseline, restricted");
            if_unreadable
        });
    }
    let label = format!("{PREFIX}{mode}-version");
    if let Some(text) = labels[&label].as_str() {
        bound.version = Version::parse(text).unwrap_or_else(|| {
            wrong(&label, text, "must be \"latest\" or \"v1.x\"");
            Version(None)
        });
    }
}
