//! The paths of printer columns, selectable fields and scales: `.spec.a`, `.list[0]`, `.list[*].name`,
//! `.conditions[?(@.type=="Ready")].status`, `.labels['a.b/c']`, `.labels.a\.b`.

use serde_json::Value;

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    /// Items of which something is equal (or not, or less and so on).
    Where(Path, Operator, Value),
    /// Items that have something.
    Has(Path),
    /// The value itself and everything in it.
    Descend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A parsed path.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Path {
    steps: Vec<Step>,
}

impl Path {
    /// Parses a path, with or without the dollar or the braces around it; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        let text = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = step(rest, &mut steps)?;
        }
        Some(Self { steps })
    }

    /// All that the path leads to.
    pub(crate) fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![value];
        for step in &self.steps {
            found = found.into_iter().flat_map(|value| step.follow(value)).collect();
        }
        found
    }

    /// The first thing that the path leads to.
    pub(crate) fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.find(value).into_iter().next()
    }

    /// The names on the way, if the path is made of names only.
    pub(crate) fn names(&self) -> Option<Vec<&str>> {
        let names = self.steps.iter().map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match self {
            Self::Field(name) => value.get(name.as_str()).into_iter().collect(),
            Self::Index(index) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                place(*index, items.len())
                    .and_then(|at| items.get(at))
                    .into_iter()
                    .collect()
            }
            Self::Slice(from, to) => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                let bound = |at: &Option<i64>, or: usize| at.map_or(Some(or), |at| place(at, items.len()));
                let (from, to) = (bound(from, 0), bound(to, items.len()));
                let range = from.unwrap_or(0).min(items.len())..to.unwrap_or(0).min(items.len());
                items.get(range).unwrap_or_default().iter().collect()
            }
            Self::All => children(value),
            Self::Where(path, operator, wanted) => {
                let selects = |item: &&&'a Value| path.find(item).iter().any(|found| operator.holds(found, wanted));
                children(value).iter().filter(selects).copied().collect()
            }
            Self::Has(path) => {
                let has = |item: &&&'a Value| !path.find(item).is_empty();
                children(value).iter().filter(has).copied().collect()
            }
            Self::Descend => {
                let mut found = vec![value];
                let mut at = 0;
                while at < found.len() {
                    found.extend(children(found[at]));
                    at += 1;
                }
                found
            }
        }
    }
}

impl Operator {
    fn holds(self, found: &Value, wanted: &Value) -> bool {
        let order = match (found, wanted) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            _ => None,
        };
        match self {
            Self::Equal => found == wanted || order.is_some_and(std::cmp::Ordering::is_eq),
            Self::NotEqual => found != wanted && !order.is_some_and(std::cmp::Ordering::is_eq),
            Self::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Self::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Self::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Self::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

/// A place counted from the start, or from the end if negative.
fn place(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(at) => Some(at),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

/// Reads one step; gives the text after it.
fn step<'a>(text: &'a str, steps: &mut Vec<Step>) -> Option<&'a str> {
    if let Some(rest) = text.strip_prefix("..") {
        steps.push(Step::Descend);
        return if rest.starts_with('[') {
            Some(rest)
        } else {
            name(rest, steps)
        };
    }
    if let Some(rest) = text.strip_prefix('.') {
        return if rest.is_empty() || rest.starts_with('[') {
            Some(rest)
        } else {
            name(rest, steps)
        };
    }
    let rest = text.strip_prefix('[')?;
    let end = closing(rest)?;
    steps.push(bracket(rest[..end].trim())?);
    Some(&rest[end + 1..])
}

/// A name up to the next dot or bracket that no backslash escapes.
fn name<'a>(text: &'a str, steps: &mut Vec<Step>) -> Option<&'a str> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    steps.push(match name.as_str() {
        "" => return None,
        "*" => Step::All,
        _ => Step::Field(name),
    });
    Some(&text[end..])
}

/// Where the bracket that is open closes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0usize, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('[' | '(', None) => depth += 1,
            (']', None) if depth == 0 => return Some(at),
            (']' | ')', None) => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Option<Step> {
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(quoted) = unquoted(text) {
        return Some(Step::Field(quoted));
    }
    if let Some(condition) = text.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        return filter(condition.trim());
    }
    if let Some((from, to)) = text.split_once(':') {
        let bound = |text: &str| match text.trim() {
            "" => Some(None),
            number => number.parse().ok().map(Some),
        };
        return Some(Step::Slice(bound(from)?, bound(to)?));
    }
    text.parse().ok().map(Step::Index)
}

fn unquoted(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.get(1..)?.strip_suffix(quote)?;
    Some(inner.replace('\\', ""))
}

fn filter(text: &str) -> Option<Step> {
    let operators = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let path = |text: &str| Path::parse(text.trim().strip_prefix('@')?);
    for (sign, operator) in operators {
        if let Some((left, right)) = text.split_once(sign) {
            let right = right.trim();
            let value = match unquoted(right) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right).ok()?,
            };
            return Some(Step::Where(path(left)?, operator, value));
        }
    }
    Some(Step::Has(path(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_where_they_say() {
        let object = json!({
            "spec": {"a": 1, "list": [{"name": "x", "n": 1}, {"name": "y", "n": 2}]},
            "metadata": {"labels": {"a.b/c": "v"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        for (path, expected) in [
            (".spec.a", json!([1])),
            ("{.spec.a}", json!([1])),
            (".spec.list[0].name", json!(["x"])),
            (".spec.list[-1].name", json!(["y"])),
            (".spec.list[*].name", json!(["x", "y"])),
            (".spec.list[1:].name", json!(["y"])),
            (r".metadata.labels.a\.b/c", json!(["v"])),
            (".metadata.labels['a.b/c']", json!(["v"])),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"])),
            (".status.conditions[?(@.type == 'Other')].status", json!(["False"])),
            (".spec.list[?(@.n>1)].name", json!(["y"])),
            ("..name", json!(["x", "y"])),
            (".nothing.here", json!([])),
        ] {
            let found: Vec<Value> = Path::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(json!(found), expected, "{path}");
        }
        for path in ["spec[", ".a[?(@.b=]", "..", ".a["] {
            assert_eq!(Path::parse(path), None, "{path}");
        }
    }

    #[test]
    fn names_of_a_plain_path() {
        assert_eq!(
            Path::parse(".spec.replicas").unwrap().names(),
            Some(vec!["spec", "replicas"])
        );
        assert_eq!(Path::parse(".spec.list[0]").unwrap().names(), None);
    }
}
