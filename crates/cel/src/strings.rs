//! Functions of text, and texts of values.

use crate::evaluate::{EvalError, failed, no_overload};
use crate::value::Value;
use jiff::SignedDuration;
use regex::Regex;
use std::cmp::Ordering;
use std::fmt::Write;
use std::sync::Arc;

/// A semantic version.
#[derive(Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    /// The parts after the dash.
    before: Vec<String>,
}

impl Semver {
    /// Reads `1.2.3-rc.1+build`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (text, _build) = text.split_once('+').unwrap_or((text, ""));
        let (core, before) = text.split_once('-').unwrap_or((text, ""));
        let number = |text: &str| {
            let plain = text == "0" || !text.starts_with('0');
            text.parse::<u64>().ok().filter(|_| plain && !text.starts_with('+'))
        };
        let mut parts = core.split('.').map(number);
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        let before: Vec<String> = before
            .split('.')
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect();
        let is_whole = parts.next().is_none() && !(text.ends_with('-'));
        is_whole.then_some(Self { numbers, before })
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        let at = match name {
            "major" => 0,
            "minor" => 1,
            _ => 2,
        };
        i64::try_from(self.numbers[at]).unwrap_or(i64::MAX)
    }

    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let part = |a: &String, b: &String| match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            _ => a.cmp(b),
        };
        let before = || match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.before.iter().zip(&other.before).map(|(a, b)| part(a, b));
                let first = pairs.into_iter().find(|order| order.is_ne());
                first.unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(before)
    }
}

/// A span of time as Go writes it: `1h30m`, `500ms`, `-1.5s`.
pub(crate) fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let units = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 6e10),
            ("h", 3.6e12),
        ];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        nanos += number * factor;
    }
    let span = SignedDuration::try_from_secs_f64(nanos / 1e9).ok()?;
    Some(if negative { -span } else { span })
}

/// The text of a value that has one.
pub(crate) fn to_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(text) => text.to_string(),
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(span) => {
            let (seconds, nanos) = (span.as_secs(), span.subsec_nanos().unsigned_abs());
            if nanos == 0 {
                format!("{seconds}s")
            } else {
                let fraction = format!("{nanos:09}");
                format!("{seconds}.{}s", fraction.trim_end_matches('0'))
            }
        }
        Value::Quantity(amount) => amount.text(),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(net) => net.to_string(),
        Value::Type(name) => name.to_string(),
        _ => return None,
    })
}

fn regex(pattern: &str) -> Result<Regex, EvalError> {
    // A pattern may come from an object, so its size is bounded.
    let built = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
    built.map_err(|error| failed(format!("error parsing regexp: {error}")))
}

/// Calls a function of text; `None` if there is none.
pub(crate) fn call(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    if let ("join", Some(Value::List(items))) = (function, values.first()) {
        return join(items, values.get(1)).map(Some);
    }
    if let ("validate", [Value::Format(format), Value::String(text)]) = (function, values) {
        return Ok(Some(validate(format, text)));
    }
    let Some((Value::String(text), arguments)) = values.split_first() else {
        return Ok(None);
    };
    if let Some(value) = search(function, text, arguments)? {
        return Ok(Some(value));
    }
    Ok(Some(match (function, arguments) {
        ("lowerAscii", []) => Value::text(text.to_ascii_lowercase()),
        ("upperAscii", []) => Value::text(text.to_ascii_uppercase()),
        ("trim", []) => Value::text(text.trim()),
        ("reverse", []) => Value::text(text.chars().rev().collect::<String>()),
        ("charAt", [Value::Int(at)]) => {
            let chars: Vec<char> = text.chars().collect();
            let at = usize::try_from(*at).ok().filter(|at| *at <= chars.len());
            let at = at.ok_or_else(|| failed("index out of range"))?;
            Value::text(chars.get(at).map(char::to_string).unwrap_or_default())
        }
        ("substring", [Value::Int(from)]) => part(text, *from, i64::MAX)?,
        ("substring", [Value::Int(from), Value::Int(to)]) => part(text, *from, *to)?,
        ("replace", [Value::String(from), Value::String(to)]) => Value::text(text.replace(&**from, to)),
        ("replace", [Value::String(from), Value::String(to), Value::Int(count)]) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            Value::text(text.replacen(&**from, to, count))
        }
        ("split", [Value::String(by)]) => split(text, by, None),
        ("split", [Value::String(by), Value::Int(count)]) => split(text, by, usize::try_from(*count).ok()),
        ("format", [Value::List(values)]) => Value::text(format(text, values)?),
        ("strings.quote", []) => Value::text(format!("{text:?}")),
        _ => return Ok(None),
    }))
}

fn search(function: &str, text: &str, arguments: &[Value]) -> Result<Option<Value>, EvalError> {
    let Some((Value::String(what), rest)) = arguments.split_first() else {
        return Ok(None);
    };
    let place = |at: Option<usize>| {
        let characters = at.map(|at| text[..at].chars().count());
        Value::Int(characters.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1))
    };
    let bytes_before = |count: i64| {
        let count = usize::try_from(count).ok()?;
        let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        ends.into_iter().nth(count)
    };
    let out_of_range = || failed("index out of range");
    Ok(Some(match (function, rest) {
        ("contains", []) => Value::Bool(text.contains(&**what)),
        ("startsWith", []) => Value::Bool(text.starts_with(&**what)),
        ("endsWith", []) => Value::Bool(text.ends_with(&**what)),
        ("matches", []) => Value::Bool(regex(what)?.is_match(text)),
        ("find", []) => Value::text(regex(what)?.find(text).map_or("", |found| found.as_str())),
        ("findAll", rest) => {
            let most = match rest {
                [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let regex = regex(what)?;
            let found = regex.find_iter(text).take(most);
            Value::list(found.map(|found| Value::text(found.as_str())).collect())
        }
        ("indexOf", []) => place(text.find(&**what)),
        ("indexOf", [Value::Int(from)]) => {
            let from = bytes_before(*from).ok_or_else(out_of_range)?;
            place(text[from..].find(&**what).map(|at| at + from))
        }
        ("lastIndexOf", []) => place(text.rfind(&**what)),
        ("lastIndexOf", [Value::Int(to)]) => {
            let to = bytes_before(*to).ok_or_else(out_of_range)?;
            let starts = text.match_indices(&**what).map(|(at, _)| at);
            place(starts.filter(|at| *at <= to).last())
        }
        _ => return Ok(None),
    }))
}

fn part(text: &str, from: i64, to: i64) -> Result<Value, EvalError> {
    let chars: Vec<char> = text.chars().collect();
    let to = if to == i64::MAX {
        Some(chars.len())
    } else {
        usize::try_from(to).ok()
    };
    let range = usize::try_from(from).ok().zip(to);
    let found = range.and_then(|(from, to)| chars.get(from..to));
    found
        .map(|chars| Value::text(chars.iter().collect::<String>()))
        .ok_or_else(|| failed("index out of range"))
}

fn split(text: &str, by: &str, most: Option<usize>) -> Value {
    let parts: Vec<Value> = match (by.is_empty(), most) {
        (_, Some(0)) => Vec::new(),
        (true, _) => text.chars().map(|c| Value::text(c.to_string())).collect(),
        (false, Some(most)) => text.splitn(most, by).map(Value::text).collect(),
        (false, None) => text.split(by).map(Value::text).collect(),
    };
    Value::list(parts)
}

fn join(items: &[Value], by: Option<&Value>) -> Result<Value, EvalError> {
    let by = match by {
        Some(Value::String(by)) => by.clone(),
        None => Arc::from(""),
        Some(_) => return Err(no_overload()),
    };
    let text = |item: &Value| match item {
        Value::String(text) => Ok(text.to_string()),
        _ => Err(no_overload()),
    };
    let texts = items.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::text(texts.join(&by)))
}

/// `%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o` with an optional precision.
fn format(pattern: &str, values: &[Value]) -> Result<String, EvalError> {
    let mut text = String::new();
    let mut values = values.iter();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        if chars.next_if_eq(&'%').is_some() {
            text.push('%');
            continue;
        }
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            precision = digits.parse::<usize>().ok().map(|digits| digits.min(100));
        }
        let clause = chars.next().ok_or_else(|| failed("unexpected end of format string"))?;
        let value = values
            .next()
            .ok_or_else(|| failed("index out of range: too few arguments for the format string"))?;
        clause_text(clause, precision, value, &mut text)?;
    }
    Ok(text)
}

fn clause_text(clause: char, precision: Option<usize>, value: &Value, text: &mut String) -> Result<(), EvalError> {
    let wrong = || {
        failed(format!(
            "error during formatting: %{clause} cannot be used on {}",
            value.type_name()
        ))
    };
    let digits = precision.unwrap_or(6);
    let written = match (clause, value) {
        ('s', value) => {
            text.push_str(&display(value));
            Ok(())
        }
        ('d', Value::Int(_) | Value::Uint(_)) => text.write_str(&to_text(value).unwrap_or_default()),
        ('f', value) => write!(text, "{:.digits$}", value.double().ok_or_else(wrong)?),
        ('e', value) => write!(text, "{:.digits$e}", value.double().ok_or_else(wrong)?),
        ('b', Value::Int(number)) => write!(text, "{number:b}"),
        ('b', Value::Bool(value)) => write!(text, "{}", u8::from(*value)),
        ('o', Value::Int(number)) => write!(text, "{number:o}"),
        ('x', Value::Int(number)) => write!(text, "{number:x}"),
        ('X', Value::Int(number)) => write!(text, "{number:X}"),
        ('x' | 'X', Value::String(hex)) => hex.bytes().try_for_each(|byte| match clause {
            'x' => write!(text, "{byte:02x}"),
            _ => write!(text, "{byte:02X}"),
        }),
        _ => return Err(wrong()),
    };
    written.map_err(|_| wrong())
}

fn display(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(display).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", display(&key.value()), display(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => to_text(other).unwrap_or_else(|| other.type_name().to_owned()),
    }
}

/// What is wrong with a text of a named format; none if nothing is.
fn validate(format: &str, text: &str) -> Value {
    let label = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    let (pattern, longest): (&str, usize) = match format {
        "dns1123Label" | "dns1123LabelPrefix" => (label, 63),
        "dns1035Label" | "dns1035LabelPrefix" => ("^[a-z]([-a-z0-9]*[a-z0-9])?$", 63),
        "dns1123Subdomain" | "dns1123SubdomainPrefix" => (
            r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
            253,
        ),
        "qualifiedName" => (
            r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
            317,
        ),
        "labelValue" => ("^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", 63),
        "uuid" => (
            "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
            usize::MAX,
        ),
        "byte" => (
            "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
            usize::MAX,
        ),
        "date" => (r"^\d{4}-\d{2}-\d{2}$", usize::MAX),
        "datetime" => (
            r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$",
            usize::MAX,
        ),
        "uri" => (r"^([a-zA-Z][a-zA-Z0-9+.\-]*:[^\s]+|/[^\s]*)$", usize::MAX),
        _ => ("", usize::MAX),
    };
    // A prefix is a name of which the end is still to come.
    let stem = if format.ends_with("Prefix") {
        text.strip_suffix('-').unwrap_or(text)
    } else {
        text
    };
    let matches = match format {
        "duration" => duration(text).is_some(),
        _ => regex(pattern).is_ok_and(|regex| regex.is_match(stem)),
    };
    let mut wrong = Vec::new();
    if text.len() > longest {
        wrong.push(Value::text(format!("must be no more than {longest} characters")));
    }
    if !matches {
        wrong.push(Value::text(format!("must be a valid {format}")));
    }
    let has_any = !wrong.is_empty();
    Value::Optional(has_any.then(|| Arc::new(Value::list(wrong))))
}
