//! Numbers of signals by the names that images and pods give them. (`oci` reads the same of its command line; neither
//! crate is worth a border with the other.)

use nix::sys::signal::Signal;

/// The first and the last real-time signal.
const REAL_TIME: [i32; 2] = [34, 64];

/// The number of `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
pub(crate) fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REAL_TIME[1]).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |text: &str| {
        if text.is_empty() {
            Some(0)
        } else {
            text.parse::<i32>().ok()
        }
    };
    let real_time = if let Some(text) = name.strip_prefix("RTMIN") {
        REAL_TIME[0] + offset(text)?
    } else if let Some(text) = name.strip_prefix("RTMAX") {
        REAL_TIME[1] + offset(text)?
    } else {
        return format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32);
    };
    (REAL_TIME[0]..=REAL_TIME[1]).contains(&real_time).then_some(real_time)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn names_become_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("int", Some(2)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMIN-1", None),
            ("SIGNOPE", None),
            ("0", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
