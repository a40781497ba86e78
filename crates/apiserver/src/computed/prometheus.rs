//! The text in which kubelets tell what pods use (the exposition format of Prometheus), as far as it is needed here.

use std::collections::BTreeMap;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: BTreeMap<&'a str, String>,
    pub(super) value: f64,
    /// Milliseconds since 1970, if it says when it was so.
    pub(super) at_ms: Option<i64>,
}

/// The samples of a text; what cannot be read is left out.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(sample)
}

fn sample(line: &str) -> Option<Sample<'_>> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = read_labels(inside, &mut labels)?;
    }
    let mut words = rest.split_whitespace();
    let value = words.next()?.parse().ok()?;
    let at_ms = words.next().and_then(|word| word.parse().ok());
    Some(Sample {
        name,
        labels,
        value,
        at_ms,
    })
}

/// Reads `name="value",…}`; gives what follows.
fn read_labels<'a>(mut rest: &'a str, labels: &mut BTreeMap<&'a str, String>) -> Option<&'a str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim(), value);
        rest = &after[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read() {
        let text = "# HELP a b\n# TYPE a counter\na 1.5\na{x=\"y\",z=\"q\\\"\\\\\\n,}\"} 2e3 1700000000123\nbroken{x=\"\nb x\n";
        let found: Vec<_> = samples(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name, found[0].value, found[0].at_ms), ("a", 1.5, None));
        assert_eq!(found[1].labels["z"], "q\"\\\n,}");
        assert_eq!((found[1].value, found[1].at_ms), (2000.0, Some(1_700_000_000_123)));
    }
}
