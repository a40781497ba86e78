//! The forms of names, labels, keys and ports, each with upstream's words for what is wrong with a text.
//!
//! Every function returns `None` for a text that is well formed. The forms are checked by hand rather than by regular
//! expression, because every write passes through here; the words still show the expression, as upstream does.

const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const CONFIG_KEY: &str = "[-._a-zA-Z0-9]+";

/// Longest DNS label.
pub const LABEL_LENGTH_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_LENGTH_MAX: usize = 253;

/// `words (e.g. 'x',  or 'y', regex used for validation is '…')`.
fn form(words: &str, expression: &str, examples: &[&str]) -> String {
    let examples: String = examples
        .iter()
        .enumerate()
        .map(|(index, example)| format!("{}'{example}', ", if index == 0 { "e.g. " } else { " or " }))
        .collect();
    format!("{words} ({examples}regex used for validation is '{expression}')")
}

/// Upstream's words for a text of more than `max` bytes.
pub fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn has_label_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|b| is_lower_alnum(*b));
    ends_well(bytes.first()) && ends_well(bytes.last()) && bytes.iter().all(|b| is_lower_alnum(*b) || *b == b'-')
}

/// Letters, digits, `-`, `_`, `.`, with a letter or digit at both ends.
fn has_qualified_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    ends_well(bytes.first()) && ends_well(bytes.last()) && bytes.iter().all(inner)
}

/// All that is wrong with a text as a DNS subdomain.
pub fn subdomain_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        errors.push(too_long(SUBDOMAIN_LENGTH_MAX));
    }
    if !text.split('.').all(has_label_form) {
        let words = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                     and must start and end with an alphanumeric character";
        errors.push(form(words, SUBDOMAIN, &["example.com"]));
    }
    errors
}

/// All that is wrong with a text as a DNS label.
pub fn label_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        errors.push(too_long(LABEL_LENGTH_MAX));
    }
    if !has_label_form(text) {
        let words = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
                     and must start and end with an alphanumeric character";
        errors.push(form(words, LABEL, &["my-name", "123-abc"]));
    }
    errors
}

/// All that is wrong with a text as a DNS-1035 label, which starts with a letter.
pub fn label_1035_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        errors.push(too_long(LABEL_LENGTH_MAX));
    }
    if !has_label_form(text) || !text.as_bytes().first().is_some_and(u8::is_ascii_lowercase) {
        let words = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                     alphabetic character, and end with an alphanumeric character";
        errors.push(form(words, LABEL_1035, &["my-name", "abc-123"]));
    }
    errors
}

/// All that is wrong with a text as the last part of a URL path.
pub fn path_segment_errors(text: &str) -> Vec<String> {
    if matches!(text, "." | "..") {
        return vec![format!("may not be '{text}'")];
    }
    let forbidden = ["/", "%"].into_iter().filter(|part| text.contains(part));
    forbidden.map(|part| format!("may not contain '{part}'")).collect()
}

/// All that is wrong with a text as a label or annotation key.
pub fn qualified_name_errors(text: &str) -> Vec<String> {
    let example = ["MyName", "my.name", "123-abc"];
    let words = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character";
    let mut errors = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(subdomain_errors(prefix).iter().map(|why| format!("prefix part {why}")));
            }
            *name
        }
        _ => {
            let form = form(&format!("a qualified name {words}"), QUALIFIED, &example);
            return vec![format!(
                "{form} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LENGTH_MAX {
        errors.push(format!("name part {}", too_long(LABEL_LENGTH_MAX)));
    }
    if !has_qualified_form(name) {
        errors.push(form(&format!("name part {words}"), QUALIFIED, &example));
    }
    errors
}

/// [`qualified_name_errors`] as one text.
pub fn qualified_name_error(text: &str) -> Option<String> {
    joined(&qualified_name_errors(text))
}

/// All that is wrong with a text as a label's value.
pub fn label_value_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        errors.push(too_long(LABEL_LENGTH_MAX));
    }
    if !text.is_empty() && !has_qualified_form(text) {
        let words = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                     and must start and end with an alphanumeric character";
        let expression = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
        errors.push(form(words, expression, &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// [`label_value_errors`] as one text.
pub fn label_value_error(text: &str) -> Option<String> {
    joined(&label_value_errors(text))
}

/// All that is wrong with a text as a key of a ConfigMap or Secret.
pub fn config_key_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        errors.push(too_long(SUBDOMAIN_LENGTH_MAX));
    }
    let well_formed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(well_formed) {
        let words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(form(words, CONFIG_KEY, &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." | ".." => errors.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// All that is wrong with a text as the name of an environment variable.
pub fn env_name_errors(text: &str) -> Vec<String> {
    let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
    if text.is_empty() || !text.bytes().all(printable) {
        let words = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        return vec![words.to_owned()];
    }
    Vec::new()
}

/// All that is wrong with a text as the name of a port.
pub fn port_name_errors(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(too_long(15));
    }
    if text.is_empty() || !text.bytes().all(|b| is_lower_alnum(b) || b == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

fn joined(errors: &[String]) -> Option<String> {
    (!errors.is_empty()).then(|| errors.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdomains() {
        for good in ["a", "a.b", "a-b.c1", "0"] {
            assert!(subdomain_errors(good).is_empty(), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "ä"] {
            assert_eq!(subdomain_errors(bad).len(), 1, "{bad}");
        }
        assert_eq!(
            subdomain_errors("Bad_Name"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                 must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(subdomain_errors(&"a".repeat(254)), ["must be no more than 253 bytes"]);
    }

    #[test]
    fn config_keys() {
        assert_eq!(
            config_key_errors(""),
            [
                "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
            ]
        );
        assert_eq!(config_key_errors(".."), ["must not be '..'"]);
        assert_eq!(config_key_errors("..x"), ["must not start with '..'"]);
        assert!(config_key_errors(".x").is_empty());
    }

    #[test]
    fn keys_and_values_of_labels() {
        for good in ["a", "example.com/a_b.C", "A1"] {
            assert!(qualified_name_errors(good).is_empty(), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "_a", "UPPER/a", "a b"] {
            assert!(!qualified_name_errors(bad).is_empty(), "{bad}");
        }
        assert!(label_value_errors("").is_empty());
        assert!(!label_value_errors("a b").is_empty());
        assert!(!label_value_errors(&"a".repeat(64)).is_empty());
    }

    #[test]
    fn ports_and_environment() {
        assert!(port_name_errors("http-1").is_empty());
        for bad in ["", "1", "a--b", "-a", "HTTP", "aaaaaaaaaaaaaaaa"] {
            assert!(!port_name_errors(bad).is_empty(), "{bad}");
        }
        assert!(env_name_errors("my.VAR-1 x").is_empty());
        assert!(!env_name_errors("a=b").is_empty());
    }
}
