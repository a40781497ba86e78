//! The `Status` object that tells how a command ended.

use serde_json::{Value, json};

/// The command ended with exit code 0.
#[must_use]
pub fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

/// The command ended with this exit code.
#[must_use]
pub fn exit_code(code: i32) -> Value {
    if code == 0 {
        return success();
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// The command could not be run, or its streams could not be served.
#[must_use]
pub fn internal_error(message: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {message}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    })
}

/// The exit code that a status tells; `None` if the command did not end by itself.
#[must_use]
pub fn exit_code_of(status: &Value) -> Option<i32> {
    if is_success(status) {
        return Some(0);
    }
    let causes = status["details"]["causes"].as_array()?;
    let cause = causes.iter().find(|cause| cause["reason"] == "ExitCode")?;
    cause["message"].as_str()?.parse().ok()
}

/// The status tells success.
#[must_use]
pub fn is_success(status: &Value) -> bool {
    status["status"] == "Success"
}

/// What protocols older than v4 say on the error stream: nothing for success, else just the message.
pub(crate) fn plain_text(status: &Value) -> Option<String> {
    (!is_success(status)).then(|| status["message"].as_str().unwrap_or("unknown error").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_told_and_read() {
        assert_eq!(exit_code_of(&exit_code(0)), Some(0));
        assert_eq!(exit_code_of(&exit_code(137)), Some(137));
        assert_eq!(exit_code_of(&internal_error("no such container")), None);
        assert_eq!(plain_text(&success()), None);
        let text = plain_text(&exit_code(3)).unwrap();
        assert_eq!(text, "command terminated with non-zero exit code: exit status 3");
    }
}
