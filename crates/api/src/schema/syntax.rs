//! What upstream says of a request body that is not JSON, or no JSON object.

use serde_json::error::Category;
use std::fmt::Write;

/// How much of a body a message shows.
const SHOWN_MAX: usize = 30;

/// The whole message of the 400 for text that does not parse.
pub(super) fn unrecognized(schema: &str, text: &[u8], error: &serde_json::Error) -> String {
    let kind = schema.rsplit('.').next().unwrap_or(schema);
    format!(
        "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; \
         json parse error: {} ({})",
        reason(text, error),
        shown(text)
    )
}

/// The parser's complaint in the words of Go's.
fn reason(text: &[u8], error: &serde_json::Error) -> String {
    let message = error.to_string();
    if error.classify() == Category::Eof {
        return "unexpected end of JSON input".to_owned();
    }
    if message.starts_with("recursion limit") {
        return "exceeded max depth".to_owned();
    }
    let expected = [
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("expected `:`", "after object key"),
        ("key must be a string", "looking for beginning of object key string"),
        ("trailing characters", "after top-level value"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
    ];
    let place = expected.iter().find(|(ours, _)| message.starts_with(ours));
    let place = place.map_or("looking for beginning of value", |(_, theirs)| theirs);
    let line = text
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1))
        .unwrap_or_default();
    match line.get(error.column().saturating_sub(1)) {
        Some(byte) => format!("invalid character '{}' {place}", char::from(*byte)),
        None => message,
    }
}

/// The start of the body, in hexadecimal if it does not look like an object.
fn shown(text: &[u8]) -> String {
    let start = &text[..text.len().min(SHOWN_MAX)];
    let mut shown = match start.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(start).into_owned(),
        Some(_) => start.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all that is written");
            hex
        }),
    };
    if text.len() > SHOWN_MAX {
        shown.push_str(" ...");
    }
    shown
}
