//! Label selectors: their text grammar, their object form, and what they select.

use crate::validation::names::{label_value_error, qualified_name_error};
use serde_json::Value;

/// A parsed label selector; the empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The relation.
    pub operator: Operator,
    /// The values related to; empty for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// A relation of a label selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`, `==`, `in`.
    In,
    /// `!=`, `notin`: also true without the label.
    NotIn,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key>5`: the label is an integer above the value.
    GreaterThan,
    /// `key<5`: the label is an integer below the value.
    LessThan,
}

/// A word of the selector's text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A key, a value, or (until its place is known) one of `in`, `notin`.
    Word(String),
    /// `=`, `==`, `!=`, `!`, `>`, `<`, `(`, `)`, `,`.
    Symbol(&'static str),
    /// Symbols that mean nothing together.
    Unknown(String),
    /// The end of the text.
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Unknown(text) => text,
            Self::Symbol(text) => text,
            Self::End => "",
        }
    }
}

/// Parses the text of a `labelSelector` parameter.
///
/// # Errors
/// Upstream's words for what cannot be parsed.
pub fn parse_labels(text: &str) -> Result<LabelSelector, String> {
    let mut words = Words {
        tokens: tokens(text),
        next: 0,
    };
    let mut requirements = Vec::new();
    loop {
        match words.peek() {
            Token::Word(_) | Token::Symbol("!") => {
                let requirement =
                    parse_requirement(&mut words).map_err(|why| format!("unable to parse requirement: {why}"))?;
                requirements.push(requirement);
                match words.take() {
                    Token::End => break,
                    Token::Symbol(",") => {
                        let next = words.peek();
                        if !matches!(next, Token::Word(_) | Token::Symbol("!")) {
                            return Err(format!("found '{}', expected: identifier after ','", next.text()));
                        }
                    }
                    other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
                }
            }
            Token::End => break,
            other => {
                return Err(format!(
                    "found '{}', expected: !, identifier, or 'end of string'",
                    other.text()
                ));
            }
        }
    }
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(LabelSelector { requirements })
}

/// The tokens of a text, with a cursor.
struct Words {
    tokens: Vec<Token>,
    next: usize,
}

impl Words {
    fn peek(&self) -> Token {
        self.tokens.get(self.next).cloned().unwrap_or(Token::End)
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.next += 1;
        token
    }
}

const SPECIAL: &str = "=!(),><";
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn tokens(text: &str) -> Vec<Token> {
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|s| rest.starts_with(s)) {
            tokens.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let end = rest
                .find(|c: char| SPECIAL.contains(c) || matches!(c, ' ' | '\t' | '\r' | '\n'))
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            tokens.push(if word.is_empty() {
                Token::Unknown(rest.to_owned())
            } else {
                Token::Word(word.to_owned())
            });
            rest = if word.is_empty() { "" } else { after };
        }
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }
    tokens
}

fn parse_requirement(words: &mut Words) -> Result<Requirement, String> {
    let mut first = words.take();
    let negated = first == Token::Symbol("!");
    if negated {
        first = words.take();
    }
    let Token::Word(key) = first else {
        return Err(format!("found '{}', expected: identifier", first.text()));
    };
    check_key(&key, "<nil>")?;
    if matches!(words.peek(), Token::End | Token::Symbol(",")) {
        let operator = if negated {
            Operator::DoesNotExist
        } else {
            Operator::Exists
        };
        return Ok(Requirement {
            key,
            operator,
            values: Vec::new(),
        });
    }
    if negated {
        // Upstream forgets the `!` here and goes on; a selector that means its opposite helps nobody.
        return Err(format!(
            "found '{}', expected: ',' or 'end of string'",
            words.peek().text()
        ));
    }
    let relation = words.take();
    let (operator, list) = match relation.text() {
        "in" => (Operator::In, true),
        "notin" => (Operator::NotIn, true),
        "=" | "==" => (Operator::In, false),
        "!=" => (Operator::NotIn, false),
        ">" => (Operator::GreaterThan, false),
        "<" => (Operator::LessThan, false),
        other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
    };
    let values = if list {
        parse_list(words)?
    } else {
        vec![parse_exact(words)?]
    };
    check_values(&key, operator, &values)?;
    Ok(Requirement { key, operator, values })
}

fn parse_exact(words: &mut Words) -> Result<String, String> {
    match words.peek() {
        Token::End | Token::Symbol(",") => Ok(String::new()),
        Token::Word(value) => {
            words.take();
            Ok(value)
        }
        other => Err(format!("found '{}', expected: identifier", other.text())),
    }
}

/// `(a,b)`: sorted, each value once; `()` and a missing item stand for the empty value.
fn parse_list(words: &mut Words) -> Result<Vec<String>, String> {
    let open = words.take();
    if open != Token::Symbol("(") {
        return Err(format!("found '{}' expected: '('", open.text()));
    }
    let mut values = vec![String::new()];
    loop {
        match words.take() {
            Token::Symbol(")") => break,
            Token::Symbol(",") => values.push(String::new()),
            Token::Word(value) => {
                if let Some(last) = values.last_mut() {
                    *last = value;
                }
                let after = words.peek();
                if !matches!(after, Token::Symbol("," | ")")) {
                    return Err(format!("found '{}', expected: ',' or ')'", after.text()));
                }
            }
            other => return Err(format!("found '{}', expected: ',', ')' or identifier", other.text())),
        }
    }
    values.sort();
    values.dedup();
    Ok(values)
}

fn check_key(key: &str, path: &str) -> Result<(), String> {
    qualified_name_error(key).map_or(Ok(()), |why| Err(format!("{path}: Invalid value: {key:?}: {why}")))
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), String> {
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
        let is_integer = values.first().is_some_and(|v| v.parse::<i64>().is_ok());
        if !is_integer {
            let value = values.first().map_or("", String::as_str);
            return Err(format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ));
        }
    }
    for (index, value) in values.iter().enumerate() {
        if let Some(why) = label_value_error(value) {
            return Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {why}"));
        }
    }
    Ok(())
}

impl LabelSelector {
    /// From a `LabelSelector` object (`matchLabels`, `matchExpressions`). An absent one (null) selects nothing, an
    /// empty one everything, as upstream has it.
    ///
    /// # Errors
    /// Upstream's words for an operator or key that is not valid.
    pub fn from_object(selector: &Value) -> Result<Self, String> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let values = vec![value.as_str().unwrap_or_default().to_owned()];
                check_key(key, "key")?;
                check_values(key, Operator::In, &values)?;
                requirements.push(Requirement {
                    key: key.clone(),
                    operator: Operator::In,
                    values,
                });
            }
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            requirements.push(Requirement::from_expression(expression)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// From a plain map of labels, as Services and ReplicationControllers have it.
    pub fn from_map(labels: &Value) -> Self {
        let requirements = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            });
        Self {
            requirements: requirements.collect(),
        }
    }

    /// The selector that selects nothing.
    pub fn nothing() -> Self {
        // No label's value is in an empty set.
        Self {
            requirements: vec![Requirement {
                key: String::new(),
                operator: Operator::In,
                values: Vec::new(),
            }],
        }
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether `metadata.labels` of an object (null or a map) is selected.
    pub fn matches(&self, labels: &Value) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(labels))
    }

    /// The selector's text, as `/scale` shows it.
    pub fn to_text(&self) -> String {
        let texts: Vec<String> = self.requirements.iter().map(Requirement::to_text).collect();
        texts.join(",")
    }
}

impl Requirement {
    fn from_expression(expression: &Value) -> Result<Self, String> {
        let key = expression["key"].as_str().unwrap_or_default().to_owned();
        let mut values: Vec<String> = expression["values"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|value| value.as_str().unwrap_or_default().to_owned())
            .collect();
        let operator = match expression["operator"].as_str().unwrap_or_default() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        check_key(&key, "key")?;
        let wants_values = matches!(operator, Operator::In | Operator::NotIn);
        if wants_values && values.is_empty() {
            return Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".to_owned());
        }
        if !wants_values && !values.is_empty() {
            let shown = expression["values"].to_string();
            return Err(format!(
                "values: Invalid value: {shown}: values set must be empty for exists and does not exist"
            ));
        }
        values.sort();
        values.dedup();
        check_values(&key, operator, &values)?;
        Ok(Self { key, operator, values })
    }

    fn matches(&self, labels: &Value) -> bool {
        let found = labels.get(&self.key).and_then(Value::as_str);
        let named = found.is_some_and(|value| self.values.iter().any(|v| v == value));
        match self.operator {
            Operator::In => named,
            Operator::NotIn => !named,
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan => self.compare(found).is_some_and(|(found, limit)| found > limit),
            Operator::LessThan => self.compare(found).is_some_and(|(found, limit)| found < limit),
        }
    }

    fn compare(&self, found: Option<&str>) -> Option<(i64, i64)> {
        Some((found?.parse().ok()?, self.values.first()?.parse().ok()?))
    }

    fn to_text(&self) -> String {
        let key = &self.key;
        match (self.operator, self.values.as_slice()) {
            (Operator::Exists, _) => key.clone(),
            (Operator::DoesNotExist, _) => format!("!{key}"),
            (Operator::In, []) => String::new(),
            (Operator::In, [one]) => format!("{key}={one}"),
            (Operator::In, many) => format!("{key} in ({})", many.join(",")),
            (Operator::NotIn, [one]) => format!("{key}!={one}"),
            (Operator::NotIn, many) => format!("{key} notin ({})", many.join(",")),
            (Operator::GreaterThan, values) => format!("{key}>{}", values.concat()),
            (Operator::LessThan, values) => format!("{key}<{}", values.concat()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn selects(text: &str, labels: &Value) -> bool {
        parse_labels(text)
            .unwrap_or_else(|why| panic!("{text}: {why}"))
            .matches(labels)
    }

    #[test]
    fn what_a_text_selects() {
        let labels = json!({"app": "web", "tier": "db", "empty": "", "size": "7"});
        for text in [
            "",
            "app=web",
            "app==web",
            " app = web , tier in (db, cache) ",
            "app!=db",
            "absent!=db",
            "app",
            "!absent",
            "tier notin (web)",
            "absent notin (web)",
            "empty=",
            "empty in ()",
            "app=web,tier",
            "size>6",
            "size<8",
            "in",
        ] {
            assert_eq!(selects(text, &labels), text != "in", "{text}");
        }
        for text in [
            "app=db",
            "absent",
            "!app",
            "tier in (web)",
            "app notin (web,db)",
            "empty!=",
            "size>7",
            "app>1",
        ] {
            assert!(!selects(text, &labels), "{text}");
        }
        assert!(!selects("app=web", &Value::Null));
        assert!(selects("app!=web", &Value::Null));
    }

    #[test]
    fn errors_in_upstreams_words() {
        let table = [
            ("a===b", "unable to parse requirement: found '=', expected: identifier"),
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ];
        for (text, expected) in table {
            assert_eq!(parse_labels(text), Err(expected.to_owned()), "{text}");
        }
        let why = parse_labels("a/b/c=d").unwrap_err();
        assert!(
            why.starts_with("unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a qualified name"),
            "{why}"
        );
    }

    #[test]
    fn an_absent_selector_selects_nothing_and_an_empty_one_everything() {
        let labels = json!({"a": "b"});
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(&labels));
        assert!(LabelSelector::from_object(&json!({})).unwrap().matches(&labels));
    }

    #[test]
    fn objects_say_the_same_as_texts() {
        let object = json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [
                {"key": "c", "operator": "In", "values": ["y", "x"]},
                {"key": "d", "operator": "Exists"},
                {"key": "e", "operator": "DoesNotExist"},
                {"key": "f", "operator": "NotIn", "values": ["z", "w"]},
            ],
        });
        let selector = LabelSelector::from_object(&object).unwrap();
        assert_eq!(selector.to_text(), "a=b,c in (x,y),d,!e,f notin (w,z)");
        assert_eq!(parse_labels(&selector.to_text()), Ok(selector));
        assert!(LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]})).is_err());
        assert!(LabelSelector::from_object(&json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).is_err());
    }

    fn requirement() -> impl Strategy<Value = String> {
        let key = "[a-z]{1,3}";
        let value = "[a-z0-9]{0,3}";
        prop_oneof![
            key.prop_map(|k| k),
            key.prop_map(|k| format!("!{k}")),
            (key, value).prop_map(|(k, v)| format!("{k}={v}")),
            (key, value).prop_map(|(k, v)| format!("{k}!={v}")),
            (key, value, value).prop_map(|(k, v, w)| format!("{k} in ({v},{w})")),
            (key, value, value).prop_map(|(k, v, w)| format!("{k} notin ({v},{w})")),
        ]
    }

    proptest! {
        #[test]
        fn texts_survive_parsing_and_printing(parts in proptest::collection::vec(requirement(), 0..4)) {
            let selector = parse_labels(&parts.join(",")).unwrap();
            prop_assert_eq!(parse_labels(&selector.to_text()).unwrap(), selector);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            if let Ok(selector) = parse_labels(&text) {
                selector.matches(&json!({"a": "b"}));
            }
        }
    }
}
