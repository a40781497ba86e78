//! `docs/statefulset.md`: every rule of the StatefulSet contract with its tests and the lines that carry it out.
//!
//! A row names its tests and, for each piece of code, file, lines and item. `cargo xtask rules` writes the lines that
//! each item has now. A test fails when lines lead to something else than their item (a few lines more or less above it
//! do no harm), when a test is gone, or when a rule has none.

use anyhow::{Context, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/statefulset.md";

/// The contract's rules: a section and the numbers of its rules; a section without numbers is one rule.
const RULES: &[(&str, std::ops::RangeInclusive<u32>)] = &[
    ("A0", 1..=7),
    ("A1", 1..=10),
    ("A2", 0..=0),
    ("A3", 1..=15),
    ("A4", 1..=3),
    ("A5", 1..=11),
    ("A6", 1..=10),
    ("A7", 0..=14),
    ("A8", 1..=8),
    ("A9", 1..=10),
    ("A10", 0..=0),
    ("A11", 1..=6),
    ("A12", 1..=4),
];

/// Sections that are one rule.
const UNDIVIDED: [&str; 2] = ["A2", "A10"];

/// Writes the line ranges anew.
///
/// # Errors
/// A row that names what does not exist.
pub(crate) fn run() -> anyhow::Result<()> {
    let path = root()?.join(DOCUMENT);
    let (text, problems, _) = renewed()?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{DOCUMENT}:\n  {}", problems.join("\n  "))
}

/// The document with the line ranges of now, what is wrong with it besides, and which lines led astray.
fn renewed() -> anyhow::Result<(String, Vec<String>, Vec<String>)> {
    let root = root()?;
    let text = std::fs::read_to_string(root.join(DOCUMENT)).context("cannot read the table of rules")?;
    let tests = tests_below(&root.join("crates"))?;
    let mut missing = all_rules();
    let (mut problems, mut astray) = (Vec::new(), Vec::new());
    let mut lines = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let rule = cells.get(1).copied().unwrap_or_default().to_owned();
        if cells.len() != 6 || !missing.remove(&rule) {
            lines.push(line.to_owned());
            continue;
        }
        check_tests(&rule, cells[3], &tests, &mut problems);
        let code = places(&root, &rule, cells[4], &mut problems, &mut astray);
        lines.push(format!("| {rule} | {} | {} | {code} |", cells[2], cells[3]));
    }
    problems.extend(missing.iter().map(|rule| format!("{rule} has no row")));
    Ok((lines.join("\n") + "\n", problems, astray))
}

fn all_rules() -> BTreeSet<String> {
    let of = |(section, numbers): &(&str, std::ops::RangeInclusive<u32>)| -> Vec<String> {
        if UNDIVIDED.contains(section) {
            return vec![(*section).to_owned()];
        }
        numbers.clone().map(|number| format!("{section}.{number}")).collect()
    };
    RULES.iter().flat_map(of).collect()
}

/// A row's tests exist, and at least one is named after the rule.
fn check_tests(rule: &str, cell: &str, tests: &BTreeSet<String>, problems: &mut Vec<String>) {
    let named: Vec<&str> = cell.split(['`', ',', ' ']).filter(|word| !word.is_empty()).collect();
    for name in &named {
        if !tests.contains(*name) {
            problems.push(format!("{rule}: there is no test {name}"));
        }
    }
    let prefix = format!("{}_", rule.to_lowercase().replace('.', "_"));
    if !named.iter().any(|name| name.starts_with(&prefix)) {
        problems.push(format!("{rule}: no test is named {prefix}…"));
    }
}

/// The places of a row, each as `file:from-to item`, with the lines of now.
fn places(root: &Path, rule: &str, cell: &str, problems: &mut Vec<String>, astray: &mut Vec<String>) -> String {
    let place = |place: &str| {
        let Some((position, item)) = place.split_once(' ') else {
            problems.push(format!("{rule}: {place:?} must look like file:1-2 item"));
            return format!("`{place}`");
        };
        let (file, stated) = position.split_once(':').unwrap_or((position, ""));
        let Some((from, to)) = lines_of(&root.join("crates").join(file), item) else {
            problems.push(format!("{rule}: there is no {item} in {file}"));
            return format!("`{place}`");
        };
        if !overlaps(stated, from, to) {
            astray.push(format!("{rule}: {file}:{stated} is not {item}, which is {from}-{to}"));
        }
        format!("`{file}:{from}-{to} {item}`")
    };
    let parts = cell.split('`').filter(|part| part.contains(".rs"));
    parts.map(place).collect::<Vec<_>>().join(" ")
}

/// Whether stated lines (`12-34`) have any in common with these.
fn overlaps(stated: &str, from: usize, to: usize) -> bool {
    let lines = stated
        .split_once('-')
        .and_then(|(a, b)| Some((a.parse::<usize>().ok()?, b.parse::<usize>().ok()?)));
    lines.is_some_and(|(a, b)| a <= to && from <= b)
}

/// First and last line of an item (function, constant or type) of a file, counted from 1.
fn lines_of(file: &Path, item: &str) -> Option<(usize, usize)> {
    let text = std::fs::read_to_string(file).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let declares = |line: &str| {
        let words = line
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect::<Vec<_>>();
        words.windows(2).any(|pair| {
            matches!(pair[0], "fn" | "const" | "struct" | "enum" | "impl" | "mod" | "static") && pair[1] == item
        })
    };
    let first = lines.iter().position(|line| declares(line))?;
    let indent = lines[first].len() - lines[first].trim_start().len();
    let ends = |line: &str| {
        let trimmed = line.trim_start();
        line.len() - trimmed.len() == indent && (trimmed == "}" || trimmed == "};" || trimmed == "];")
    };
    if lines[first].ends_with(';') || lines[first].ends_with('}') {
        return Some((first + 1, first + 1));
    }
    let last = lines[first + 1..].iter().position(|line| ends(line))? + first + 1;
    Some((first + 1, last + 1))
}

/// The names of all test functions (and of everything else that is named like one).
fn tests_below(directory: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(tests_below(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                if let Some(name) = line
                    .trim_start_matches("async ")
                    .strip_prefix("fn ")
                    .filter(|_| is_test)
                {
                    found.insert(name.split('(').next().unwrap_or_default().to_owned());
                }
                is_test = line.starts_with("#[test]")
                    || line.starts_with("#[tokio::test")
                    || (is_test && line.starts_with('#'));
            }
        }
    }
    Ok(found)
}

fn root() -> anyhow::Result<PathBuf> {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map(Path::to_path_buf)
        .context("xtask lies in the repository")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_contract_has_a_test_and_the_lines_are_right() {
        let (_, problems, astray) = renewed().unwrap();
        assert!(problems.is_empty(), "{problems:#?}");
        assert!(astray.is_empty(), "run `cargo xtask rules`: {astray:#?}");
    }

    #[test]
    fn lines_that_have_none_in_common_with_their_item_lead_astray() {
        assert!(overlaps("10-20", 15, 30) && overlaps("10-20", 20, 20) && overlaps("10-20", 1, 99));
        assert!(!overlaps("10-20", 21, 30) && !overlaps("10-20", 1, 9) && !overlaps("", 1, 9));
    }

    #[test]
    fn an_item_s_lines_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.rs");
        std::fs::write(
            &file,
            "const A: u8 = 1;\n\npub(crate) fn b(\n    c: u8,\n) -> u8 {\n    if c {\n    }\n}\n",
        )
        .unwrap();
        assert_eq!(lines_of(&file, "A"), Some((1, 1)));
        assert_eq!(lines_of(&file, "b"), Some((3, 8)));
        assert_eq!(lines_of(&file, "c"), None);
    }
}
