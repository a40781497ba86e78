//! Errors as CRI answers them: a code and one line with the whole chain of causes.

use tonic::Status;

/// An error and its causes, joined by colons.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own words.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Something failed that should not.
pub(crate) fn internal<E: std::error::Error>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Status {
    move |error| Status::internal(format!("{what}: {}", chain(&error)))
}

/// No sandbox or container has this id.
pub(crate) fn no_such(what: &str, id: &str) -> Status {
    Status::not_found(format!("{what} {id:?} not found"))
}

/// Runs blocking work on a thread made for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(internal("a blocking task"))?
}
