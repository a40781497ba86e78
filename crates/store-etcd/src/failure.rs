//! What etcd's answers mean.

use store::Error;
use tonic::{Code, Status};

/// Why a call failed, as etcd or the connection to it said.
#[derive(Clone, Debug, thiserror::Error)]
#[error("etcd at {endpoint}: {message}")]
pub(crate) struct Failure {
    pub(crate) endpoint: String,
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// What can be concluded from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// etcd looked at the call and did not do it.
    Refused,
    /// This member cannot do it now; nothing was changed.
    NotDone,
    /// Nobody knows whether it was done.
    Unknown,
}

impl Failure {
    pub(crate) fn new(endpoint: &str, status: &Status) -> Self {
        let mut message = status.message().to_owned();
        let mut source = std::error::Error::source(status);
        while let Some(error) = source {
            message = format!("{message}: {error}");
            source = error.source();
        }
        Self {
            endpoint: endpoint.to_owned(),
            code: status.code(),
            message,
        }
    }

    pub(crate) fn timed_out(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            code: Code::DeadlineExceeded,
            message: "does not answer in time".to_owned(),
        }
    }

    /// The keys that a repeated transaction removes are gone.
    pub(crate) fn unknown() -> Self {
        Self {
            endpoint: "(lost)".to_owned(),
            code: Code::Unknown,
            message: "the answer to a removal was lost, and the keys are gone".to_owned(),
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self.code {
            // Too many requests passes; a full disk does not.
            Code::ResourceExhausted if self.message.contains("too many requests") => Verdict::NotDone,
            Code::Unavailable if self.message.contains("no leader") => Verdict::NotDone,
            Code::OutOfRange
            | Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::ResourceExhausted => Verdict::Refused,
            _ => Verdict::Unknown,
        }
    }

    /// The revision asked for is no longer kept.
    pub(crate) fn is_compacted(&self) -> bool {
        self.code == Code::OutOfRange && self.message.contains("compacted")
    }

    /// There is no such lease (any more).
    pub(crate) fn is_lease_not_found(&self) -> bool {
        self.code == Code::NotFound && self.message.contains("lease not found")
    }

    /// etcd says it in one way, and for what is larger still, gRPC says it in another.
    fn is_too_large(&self) -> bool {
        let said = |words| self.message.contains(words);
        said("request is too large") || said("received message larger than max")
    }

    /// The error of a call that changes nothing if it fails.
    pub(crate) fn of_read(self) -> Error {
        match self.verdict() {
            Verdict::Refused => Error::Storage(Box::new(self)),
            Verdict::NotDone | Verdict::Unknown => Error::Unavailable(Box::new(self)),
        }
    }

    /// The error of a call that may have been done.
    pub(crate) fn of_write(self) -> Error {
        match self.verdict() {
            Verdict::NotDone => Error::Unavailable(Box::new(self)),
            Verdict::Refused if self.is_too_large() => Error::TooLarge,
            Verdict::Refused | Verdict::Unknown => Error::Storage(Box::new(self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code, message: &str) -> Failure {
        Failure::new("http://a", &Status::new(code, message))
    }

    #[test]
    fn answers_of_etcd_are_understood() {
        let compacted = failure(
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        );
        assert!(compacted.is_compacted());
        assert!(failure(Code::NotFound, "etcdserver: requested lease not found").is_lease_not_found());
        let check = |code, message, expected| assert_eq!(failure(code, message).verdict(), expected, "{message}");
        check(Code::Unavailable, "etcdserver: no leader", Verdict::NotDone);
        check(Code::Unavailable, "etcdserver: leader changed", Verdict::Unknown);
        check(
            Code::ResourceExhausted,
            "etcdserver: too many requests",
            Verdict::NotDone,
        );
        check(
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded",
            Verdict::Refused,
        );
        check(Code::Unknown, "transport error", Verdict::Unknown);
        assert!(matches!(
            failure(Code::InvalidArgument, "etcdserver: request is too large").of_write(),
            Error::TooLarge
        ));
        assert!(matches!(
            failure(Code::Unknown, "transport error").of_write(),
            Error::Storage(_)
        ));
        assert!(matches!(
            failure(Code::Unknown, "transport error").of_read(),
            Error::Unavailable(_)
        ));
    }
}
