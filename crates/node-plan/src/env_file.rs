//! Environment variables in a file of a volume: lines `NAME='value'`, a subset of what a POSIX shell reads
//! (<https://kubernetes.io/docs/tasks/inject-data-application/define-environment-variable-via-file/>).
//!
//! Values stand in single quotes, mean what they say and may have several lines; lines that begin with `#` are comments.

use api::k8s::api::core::v1::Container;
use std::collections::{BTreeMap, BTreeSet};

/// More than this is not read from a file.
pub const ENV_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A volume, and a file's path in it.
pub type EnvFile = (String, String);

/// The content of files; `None` for one that is not there.
pub type EnvFiles = BTreeMap<EnvFile, Option<String>>;

/// The files that a container's variables come from.
pub fn wanted_env_files(container: &Container) -> BTreeSet<EnvFile> {
    let sources = container.env.iter().flatten().filter_map(|var| var.value_from.as_ref());
    sources
        .filter_map(|from| from.file_key_ref.as_ref())
        .map(|key| (key.volume_name.clone(), key.path.clone()))
        .collect()
}

/// The variables of a file; of several of one name, the last counts.
///
/// # Errors
/// What is wrong, with the number of its line.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<&str, &str>, String> {
    let mut variables = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        if rest.is_empty() {
            return Ok(variables);
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let wrong = |what: &str| {
            let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
            format!("line {line}: {what}")
        };
        let blank = |c: char| c == ' ' || c == '\t';
        let (name, value) = rest
            .split_once('=')
            .filter(|(name, _)| !name.contains('\n'))
            .ok_or_else(|| wrong("a variable is written NAME='value'"))?;
        let name = name.trim_end_matches(blank);
        if name.is_empty() || name.contains(blank) {
            return Err(wrong("a variable is written NAME='value'"));
        }
        let (value, after) = value
            .trim_start_matches(blank)
            .strip_prefix('\'')
            .ok_or_else(|| wrong("a value stands in single quotes"))?
            .split_once('\'')
            .ok_or_else(|| wrong("a quote has no end"))?;
        let end = after.trim_start_matches([' ', '\t', '\r']);
        if !end.is_empty() && !end.starts_with('\n') {
            return Err(wrong("nothing may follow a value on its line"));
        }
        variables.insert(name, value);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_what_they_say() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            assert_eq!(parse(text), Ok(expected.iter().copied().collect()), "{text:?}");
        };
        check("", &[]);
        check("\n # a comment\n\n", &[]);
        check("A='b'", &[("A", "b")]);
        check(
            "  A = 'b' \r\nB='$(A) \\n # \"'\n",
            &[("A", "b"), ("B", "$(A) \\n # \"")],
        );
        check("A='one\n two'\nB=''\n", &[("A", "one\n two"), ("B", "")]);
        check("A='1'\nA='2'\n", &[("A", "2")]);
        check("a.b-c='x=y'\n", &[("a.b-c", "x=y")]);
        check("#A='1'\nB='2'\n#", &[("B", "2")]);
    }

    #[test]
    fn all_else_is_refused_with_its_line() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text), Err(expected.to_owned()), "{text:?}");
        check("A=b", "line 1: a value stands in single quotes");
        check("A='1'\nB=\"2\"\n", "line 2: a value stands in single quotes");
        check("A=\n'b'", "line 1: a value stands in single quotes");
        check("A='1\n2'\nB='c", "line 3: a quote has no end");
        check("A='1''2'", "line 1: nothing may follow a value on its line");
        check("A='1'$B", "line 1: nothing may follow a value on its line");
        check("A='1' # why", "line 1: nothing may follow a value on its line");
        check("A\nB='1'", "line 1: a variable is written NAME='value'");
        check("='1'", "line 1: a variable is written NAME='value'");
        check("export A='1'", "line 1: a variable is written NAME='value'");
    }
}
