//! What the functions do.

use crate::access;
use crate::evaluate::{EvalError, Outcome, failed, no_overload};
use crate::network;
use crate::quantity::Quantity;
use crate::signatures;
use crate::strings;
use crate::value::{Key, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use std::cmp::Ordering;
use std::sync::Arc;

/// What a call costs.
pub(crate) fn cost(function: &str, values: &[Value]) -> u64 {
    let text = |value: &Value| match value {
        Value::String(_) | Value::Bytes(_) => value.parts().div_ceil(10).max(1),
        Value::List(_) | Value::Map(_) => value.parts().max(1),
        _ => 1,
    };
    let product = || values.iter().map(text).fold(1, u64::saturating_mul);
    let sum = || values.iter().map(text).fold(0, u64::saturating_add);
    match function {
        "matches" | "contains" | "find" | "findAll" | "sets.contains" | "sets.equivalent" | "sets.intersects" => {
            product()
        }
        "check" if matches!(values.first(), Some(Value::Inquiry(_))) => access::CHECK_COST,
        "_[_]" | "_[?_]" | "size" | "type" | "dyn" => 1,
        "distinct" | "sort" => values.first().map_or(1, |value| text(value).saturating_mul(2)),
        _ => sum().max(1),
    }
}

/// Calls a function; the target of a method comes first.
pub(crate) fn call(function: &str, is_method: bool, values: &[Value]) -> Outcome {
    if let Some(value) = operator(function, values)? {
        return Ok(value);
    }
    if let Some(value) = conversion(function, values)? {
        return Ok(value);
    }
    let found = match (function, values) {
        ("size", [value]) => Some(size(value)?),
        (name, _) if name.starts_with("sets.") => sets(name, values)?,
        (name, _) if name.starts_with("optional.") || matches!(values.first(), Some(Value::Optional(_))) => {
            optionals(name, values)
        }
        ("math.greatest" | "math.least", [a, b]) => extreme(function == "math.greatest", a, b),
        ("lists.range", [Value::Int(count)]) => Some(Value::list((0..*count.min(&100_000)).map(Value::Int).collect())),
        ("base64.encode", [Value::Bytes(bytes)]) => Some(Value::text(STANDARD.encode(bytes))),
        ("base64.decode", [Value::String(text)]) => {
            let bytes = STANDARD.decode(&**text).map_err(|error| failed(error.to_string()))?;
            Some(Value::Bytes(bytes.into()))
        }
        ("format.named", [Value::String(name)]) => {
            let found = signatures::format_name(name);
            Some(Value::Optional(found.map(|name| Arc::new(Value::Format(name)))))
        }
        ("jsonpatch.escapeKey", [Value::String(key)]) => Some(Value::text(key.replace('~', "~0").replace('/', "~1"))),
        (name, []) if name.starts_with("format.") => signatures::format_name(&name[7..]).map(Value::Format),
        _ => None,
    };
    if let Some(value) = found {
        return Ok(value);
    }
    if let Some(value) = access::call(function, values)? {
        return Ok(value);
    }
    if let Some(value) = network::call(function, values)? {
        return Ok(value);
    }
    if let Some(value) = quantities(function, values)? {
        return Ok(value);
    }
    if let Some(value) = times(function, values)? {
        return Ok(value);
    }
    if let Some(value) = strings::call(function, values)? {
        return Ok(value);
    }
    if is_method && let Some(value) = lists(function, values)? {
        return Ok(value);
    }
    Err(no_overload())
}

fn size(value: &Value) -> Outcome {
    let count = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        _ => return Err(no_overload()),
    };
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn operator(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    Ok(Some(match (function, values) {
        ("!_", [Value::Bool(value)]) => Value::Bool(!value),
        ("-_", [Value::Int(value)]) => Value::Int(value.checked_neg().ok_or_else(overflow)?),
        ("-_", [Value::Double(value)]) => Value::Double(-value),
        ("_==_", [a, b]) => Value::Bool(a == b),
        ("_!=_", [a, b]) => Value::Bool(a != b),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => {
            let is_nan = |value: &Value| matches!(value, Value::Double(number) if number.is_nan());
            if is_nan(a) || is_nan(b) {
                return Ok(Some(Value::Bool(false)));
            }
            let order = a.order(b).ok_or_else(no_overload)?;
            Value::Bool(match function {
                "_<_" => order == Ordering::Less,
                "_<=_" => order != Ordering::Greater,
                "_>_" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            })
        }
        ("@in", [item, Value::List(items)]) => Value::Bool(items.contains(item)),
        ("@in", [key, Value::Map(entries)]) => Value::Bool(key.key().is_some_and(|key| entries.contains_key(&key))),
        ("_[_]", [Value::Optional(None), _]) | ("_[?_]", [Value::Optional(None), _]) => Value::Optional(None),
        ("_[_]" | "_[?_]", [Value::Optional(Some(inner)), at]) => Value::Optional(element(inner, at)?.map(Arc::new)),
        ("_[?_]", [value, at]) => Value::Optional(element(value, at)?.map(Arc::new)),
        ("_[_]", [value, at]) => match element(value, at)? {
            Some(found) => found,
            None if matches!(value, Value::List(_)) => {
                return Err(failed(format!("index out of bounds: {}", shown(at))));
            }
            None => return Err(failed(format!("no such key: {}", shown(at)))),
        },
        ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [a, b]) => arithmetic(function, a, b)?,
        _ => return Ok(None),
    }))
}

fn shown(value: &Value) -> String {
    strings::to_text(value).unwrap_or_else(|| value.type_name().to_owned())
}

fn element(value: &Value, at: &Value) -> Result<Option<Value>, EvalError> {
    match (value, at.key()) {
        (Value::List(items), Some(Key::Int(at))) => Ok(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned()),
        (Value::Map(entries), Some(key)) => Ok(entries.get(&key).cloned()),
        (Value::Map(_), None) => Ok(None),
        _ => Err(no_overload()),
    }
}

fn overflow() -> EvalError {
    failed("integer overflow")
}

fn arithmetic(function: &str, a: &Value, b: &Value) -> Outcome {
    let zero = || {
        failed(if function == "_%_" {
            "modulus by zero"
        } else {
            "division by zero"
        })
    };
    Ok(match (function, a, b) {
        ("_/_" | "_%_", Value::Int(_), Value::Int(0)) | ("_/_" | "_%_", Value::Uint(_), Value::Uint(0)) => {
            return Err(zero());
        }
        (_, Value::Int(a), Value::Int(b)) => {
            let made = match function {
                "_+_" => a.checked_add(*b),
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            Value::Int(made.ok_or_else(overflow)?)
        }
        (_, Value::Uint(a), Value::Uint(b)) => {
            let made = match function {
                "_+_" => a.checked_add(*b),
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            Value::Uint(made.ok_or_else(overflow)?)
        }
        ("_+_", Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        ("_-_", Value::Double(a), Value::Double(b)) => Value::Double(a - b),
        ("_*_", Value::Double(a), Value::Double(b)) => Value::Double(a * b),
        ("_/_", Value::Double(a), Value::Double(b)) => Value::Double(a / b),
        ("_+_", Value::String(a), Value::String(b)) => Value::text([&**a, &**b].concat()),
        ("_+_", Value::Bytes(a), Value::Bytes(b)) => Value::Bytes([&**a, &**b].concat().into()),
        ("_+_", Value::List(a), Value::List(b)) => Value::list(a.iter().chain(b.iter()).cloned().collect()),
        ("_+_", Value::Duration(a), Value::Duration(b)) => Value::Duration(a.checked_add(*b).ok_or_else(overflow)?),
        ("_-_", Value::Duration(a), Value::Duration(b)) => Value::Duration(a.checked_sub(*b).ok_or_else(overflow)?),
        ("_+_", Value::Timestamp(time), Value::Duration(span))
        | ("_+_", Value::Duration(span), Value::Timestamp(time)) => {
            Value::Timestamp(time.checked_add(*span).map_err(|_| overflow())?)
        }
        ("_-_", Value::Timestamp(time), Value::Duration(span)) => {
            Value::Timestamp(time.checked_sub(*span).map_err(|_| overflow())?)
        }
        ("_-_", Value::Timestamp(a), Value::Timestamp(b)) => Value::Duration(a.duration_since(*b)),
        _ => return Err(no_overload()),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "a range check stands before each cast")]
fn conversion(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    let [value] = values else { return Ok(None) };
    let wrong = || {
        failed(format!(
            "type conversion error from '{}' to '{function}'",
            value.type_name()
        ))
    };
    Ok(Some(match (function, value) {
        ("dyn", value) => value.clone(),
        ("type", value) => Value::Type(value.type_name().into()),
        ("int", Value::Int(_))
        | ("uint", Value::Uint(_))
        | ("double", Value::Double(_))
        | ("bool", Value::Bool(_))
        | ("string", Value::String(_))
        | ("bytes", Value::Bytes(_))
        | ("timestamp", Value::Timestamp(_))
        | ("duration", Value::Duration(_)) => value.clone(),
        ("int", Value::Uint(number)) => Value::Int(i64::try_from(*number).map_err(|_| overflow())?),
        ("int", Value::Double(number)) if number.abs() < 9.2e18 => Value::Int(*number as i64),
        ("int", Value::String(text)) => Value::Int(text.parse().map_err(|_| wrong())?),
        ("int", Value::Timestamp(time)) => Value::Int(time.as_second()),
        ("int", Value::Duration(span)) => Value::Int(span.as_secs()),
        ("uint", Value::Int(number)) => Value::Uint(u64::try_from(*number).map_err(|_| overflow())?),
        ("uint", Value::Double(number)) if (0.0..1.8e19).contains(number) =>
        {
            #[expect(clippy::cast_sign_loss, reason = "negative numbers are left out")]
            Value::Uint(*number as u64)
        }
        ("uint", Value::String(text)) => Value::Uint(text.parse().map_err(|_| wrong())?),
        ("double", Value::Int(_) | Value::Uint(_)) => Value::Double(value.double().ok_or_else(wrong)?),
        ("double", Value::String(text)) => Value::Double(text.parse().map_err(|_| wrong())?),
        ("bool", Value::String(text)) => match &**text {
            "true" | "TRUE" | "True" | "t" | "1" => Value::Bool(true),
            "false" | "FALSE" | "False" | "f" | "0" => Value::Bool(false),
            _ => return Err(wrong()),
        },
        ("string", Value::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| failed("invalid UTF-8"))?;
            Value::text(text)
        }
        ("string", value) => Value::text(strings::to_text(value).ok_or_else(wrong)?),
        ("bytes", Value::String(text)) => Value::Bytes(text.as_bytes().into()),
        ("timestamp", Value::String(text)) => Value::Timestamp(text.parse().map_err(|_| wrong())?),
        ("timestamp", Value::Int(seconds)) => Value::Timestamp(Timestamp::from_second(*seconds).map_err(|_| wrong())?),
        ("duration", Value::String(text)) => Value::Duration(strings::duration(text).ok_or_else(wrong)?),
        ("int" | "uint" | "double" | "bool" | "bytes" | "timestamp" | "duration", _) => return Err(no_overload()),
        _ => return Ok(None),
    }))
}

fn sets(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    let [Value::List(a), Value::List(b)] = values else {
        return Err(no_overload());
    };
    let within = |a: &[Value], b: &[Value]| b.iter().all(|item| a.contains(item));
    Ok(match function {
        "sets.contains" => Some(Value::Bool(within(a, b))),
        "sets.equivalent" => Some(Value::Bool(within(a, b) && within(b, a))),
        "sets.intersects" => Some(Value::Bool(a.iter().any(|item| b.contains(item)))),
        _ => None,
    })
}

fn optionals(function: &str, values: &[Value]) -> Option<Value> {
    let some = |value: &Value| Value::Optional(Some(Arc::new(value.clone())));
    Some(match (function, values) {
        ("optional.none", []) => Value::Optional(None),
        ("optional.of", [value]) => some(value),
        ("optional.ofNonZeroValue", [value]) => {
            let is_zero = match value {
                Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) => true,
                Value::Double(number) => *number == 0.0,
                Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.parts() == 0,
                _ => false,
            };
            if is_zero { Value::Optional(None) } else { some(value) }
        }
        ("hasValue", [Value::Optional(value)]) => Value::Bool(value.is_some()),
        ("value", [Value::Optional(Some(value))]) => (**value).clone(),
        ("or", [Value::Optional(None), other]) => other.clone(),
        ("or", [value @ Value::Optional(Some(_)), _]) => value.clone(),
        ("orValue", [Value::Optional(value), other]) => value.as_deref().unwrap_or(other).clone(),
        _ => return None,
    })
}

fn extreme(greatest: bool, a: &Value, b: &Value) -> Option<Value> {
    let order = a.order(b)?;
    let first = if greatest { order.is_ge() } else { order.is_le() };
    Some(if first { a.clone() } else { b.clone() })
}

fn quantities(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    Ok(Some(match (function, values) {
        ("quantity", [Value::String(text)]) => {
            let parsed = Quantity::parse(text);
            let why = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
            Value::Quantity(parsed.ok_or_else(|| failed(why))?)
        }
        ("isQuantity", [Value::String(text)]) => Value::Bool(Quantity::parse(text).is_some()),
        ("isInteger", [Value::Quantity(amount)]) => Value::Bool(amount.whole().is_some()),
        ("asInteger", [Value::Quantity(amount)]) => {
            let whole = amount
                .whole()
                .ok_or_else(|| failed("cannot convert value to integer"))?;
            Value::Int(whole)
        }
        ("asApproximateFloat", [Value::Quantity(amount)]) => Value::Double(amount.approximate()),
        ("sign", [Value::Quantity(amount)]) => Value::Int(amount.sign()),
        ("add" | "sub", [Value::Quantity(a), b]) => {
            let b = match b {
                Value::Quantity(b) => *b,
                Value::Int(b) => Quantity::from(*b),
                _ => return Err(no_overload()),
            };
            let made = if function == "add" { a.add(b) } else { a.sub(b) };
            Value::Quantity(made.ok_or_else(overflow)?)
        }
        ("isLessThan", [Value::Quantity(a), Value::Quantity(b)]) => Value::Bool(a < b),
        ("isGreaterThan", [Value::Quantity(a), Value::Quantity(b)]) => Value::Bool(a > b),
        ("compareTo", [Value::Quantity(a), Value::Quantity(b)]) => Value::Int(a.cmp(b) as i64),
        _ => return Ok(None),
    }))
}

fn times(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    if let [Value::Duration(span)] = values {
        return Ok(span_part(function, *span).map(Value::Int));
    }
    let (time, zone) = match values {
        [Value::Timestamp(time)] => (time, "UTC"),
        [Value::Timestamp(time), Value::String(zone)] => (time, &**zone),
        _ => return Ok(None),
    };
    let zone = match jiff::tz::TimeZone::get(zone) {
        Ok(zone) => zone,
        Err(_) => offset(zone).ok_or_else(|| failed(format!("unknown time zone {zone}")))?,
    };
    let local = time.to_zoned(zone);
    let number = match function {
        "getFullYear" => i64::from(local.year()),
        "getMonth" => i64::from(local.month()) - 1,
        "getDate" => i64::from(local.day()),
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDayOfWeek" => i64::from(local.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getHours" => i64::from(local.hour()),
        "getMinutes" => i64::from(local.minute()),
        "getSeconds" => i64::from(local.second()),
        "getMilliseconds" => i64::from(local.millisecond()),
        _ => return Ok(None),
    };
    Ok(Some(Value::Int(number)))
}

fn span_part(function: &str, span: SignedDuration) -> Option<i64> {
    Some(match function {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        "getMilliseconds" => i64::try_from(span.as_millis() % 1000).unwrap_or(0),
        _ => return None,
    })
}

/// A zone written as an offset, e.g. `-08:00`.
fn offset(text: &str) -> Option<jiff::tz::TimeZone> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let offset = jiff::tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?;
    Some(jiff::tz::TimeZone::fixed(offset))
}

fn lists(function: &str, values: &[Value]) -> Result<Option<Value>, EvalError> {
    let Some((Value::List(items), arguments)) = values.split_first() else {
        return Ok(None);
    };
    let place = |found: Option<usize>| Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1));
    Ok(Some(match (function, arguments) {
        ("isSorted", []) => Value::Bool(items.is_sorted_by(|a, b| a.order(b).is_some_and(Ordering::is_le))),
        ("sum", []) => {
            let mut total = None;
            for item in items.iter() {
                total = Some(match total {
                    None => item.clone(),
                    Some(total) => arithmetic("_+_", &total, item)?,
                });
            }
            total.unwrap_or(Value::Int(0))
        }
        ("min" | "max", []) => {
            let best = items
                .iter()
                .cloned()
                .reduce(|a, b| extreme(function == "max", &a, &b).unwrap_or(a));
            best.ok_or_else(|| failed(format!("{function} called on empty list")))?
        }
        ("indexOf", [item]) => place(items.iter().position(|one| one == item)),
        ("lastIndexOf", [item]) => place(items.iter().rposition(|one| one == item)),
        ("slice", [Value::Int(from), Value::Int(to)]) => {
            let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
            let part = range.and_then(|(from, to)| items.get(from..to));
            Value::list(part.ok_or_else(|| failed("index out of bounds"))?.to_vec())
        }
        ("distinct", []) => {
            let mut kept: Vec<Value> = Vec::new();
            for item in items.iter() {
                if !kept.contains(item) {
                    kept.push(item.clone());
                }
            }
            Value::list(kept)
        }
        ("reverse", []) => Value::list(items.iter().rev().cloned().collect()),
        ("sort", []) => {
            let mut sorted = items.to_vec();
            sorted.sort_by(|a, b| a.order(b).unwrap_or(Ordering::Equal));
            Value::list(sorted)
        }
        ("flatten", []) => {
            let flat = items.iter().flat_map(|item| match item {
                Value::List(inner) => inner.to_vec(),
                other => vec![other.clone()],
            });
            Value::list(flat.collect())
        }
        _ => return Ok(None),
    }))
}
