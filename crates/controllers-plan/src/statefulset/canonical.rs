//! JSON as Go's encoder writes it, so that revision data and hashes are byte-equal to upstream's.

use serde_json::{Number, Value};

/// Up to here every integer is exact as a float; upstream sends all numbers through floats.
const EXACT_MAX: u64 = 1 << 53;

/// Compact JSON with sorted keys, Go's escapes and Go's numbers.
pub(crate) fn encode(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value);
    out
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&go_number(number)),
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            // serde_json's map is sorted only as long as nobody in the build asks for preserve_order.
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (index, (key, field)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(out, key);
                out.push(':');
                write_value(out, field);
            }
            out.push('}');
        }
    }
}

fn go_number(number: &Number) -> String {
    let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    match (magnitude, number.as_f64()) {
        (Some(magnitude), _) if magnitude <= EXACT_MAX => number.to_string(),
        (_, Some(float)) if float == 0.0 || (1e-6..1e21).contains(&float.abs()) => format!("{float}"),
        (_, Some(float)) => go_exponent(&format!("{float:e}")),
        _ => number.to_string(),
    }
}

/// `1e-7` as Go writes it (`1e-07` is only printf's way), `1e21` as `1e+21`.
fn go_exponent(text: &str) -> String {
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text.to_owned(),
    }
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{0}'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(value: &Value, expected: &str) {
        assert_eq!(encode(value), expected);
    }

    #[test]
    fn a6_3_strings_are_escaped_as_go_does() {
        check(
            &json!("a<b>&c\u{2028}\u{2029}\u{1}\n\"\\é"),
            r#""a\u003cb\u003e\u0026c\u2028\u2029\u0001\n\"\\é""#,
        );
    }

    #[test]
    fn a6_3_numbers_pass_through_floats() {
        // 2^63 in the fewest digits that mean it, padded, as strconv formats it.
        check(&json!(i64::MAX), "9223372036854776000");
        check(&json!(9_007_199_254_740_993_u64), "9007199254740992");
        check(&json!(-1), "-1");
        check(&json!(0.5), "0.5");
        check(&json!(1e21), "1e+21");
        check(&json!(0.0), "0");
    }

    #[test]
    fn a6_1_keys_are_sorted_at_every_depth() {
        let text = r#"{"z":{"b":1,"a":[{"y":null,"x":true}]},"$patch":"replace"}"#;
        check(
            &serde_json::from_str(text).unwrap(),
            r#"{"$patch":"replace","z":{"a":[{"x":true,"y":null}],"b":1}}"#,
        );
    }
}
