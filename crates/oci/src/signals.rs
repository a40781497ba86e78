//! Names and numbers of signals, the real-time ones included.

/// The number of a signal given as `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`; nothing if there is no such signal.
pub(crate) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return real_time(offset, '+', |n| 34 + n);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return real_time(offset, '-', |n| 64 - n);
    }
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    format!("SIG{name}")
        .parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
}

fn real_time(offset: &str, sign: char, apply: impl Fn(i32) -> i32) -> Option<i32> {
    if offset.is_empty() {
        return Some(apply(0));
    }
    let number = apply(offset.strip_prefix(sign)?.parse::<i32>().ok()?);
    (34..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_are_read() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGPOLL", Some(29)),
            ("SIGNOPE", None),
            ("0", None),
            ("99", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
