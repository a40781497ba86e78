//! Resource quantities such as `100m`, `1Gi`, `1e3`: parsing, canonical form, arithmetic.

mod amount;

pub use amount::Amount;

/// Nano-units in one unit.
const NANO: i128 = 1_000_000_000;

/// The largest amount, in units: larger ones are cut to it, as upstream does.
const UNITS_MAX: i128 = i64::MAX as i128;

/// Upstream's words for text that is no quantity at all.
const WRONG_FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Upstream's words for a suffix that is none.
const WRONG_SUFFIX: &str = "unable to parse quantity's suffix";

/// An amount in nano-units, exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Quantity {
    /// The amount times 10^9.
    pub nanos: i128,
}

/// How a quantity is written; kept from its first text to its canonical one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `m`, `k`, `M` …
    Decimal,
    /// `Ki`, `Mi` …
    Binary,
    /// `e3`, `E6` …
    Exponent,
}

/// What a suffix multiplies by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

impl Quantity {
    /// A whole number of units.
    pub fn from_units(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANO,
        }
    }

    /// The amount in whole units, rounded up (as upstream's `Value`).
    pub fn units(self) -> i64 {
        ceil_i64(self.nanos, NANO)
    }

    /// The amount in thousandths, rounded up (as upstream's `MilliValue`).
    pub fn millis(self) -> i64 {
        ceil_i64(self.nanos, NANO / 1000)
    }

    /// Canonical text in decimal form, e.g. `1500m`.
    pub fn to_decimal(self) -> String {
        decimal(self.nanos, Format::Decimal)
    }

    /// Canonical text in binary form where that is exact, e.g. `1Gi`.
    pub fn to_binary(self) -> String {
        write(self.nanos, Format::Binary)
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
        }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), std::ops::Add::add)
    }
}

/// Parses a quantity.
///
/// # Errors
/// Upstream's words for text that is no quantity.
pub fn parse(text: &str) -> Result<Quantity, String> {
    parse_with_format(text).map(|(nanos, _)| Quantity { nanos })
}

/// The canonical text of a quantity given as text, keeping its suffix family (`0.1` is `100m`, `1024Ki` is `1Mi`).
///
/// # Errors
/// Upstream's words for text that is no quantity.
pub fn canonical(text: &str) -> Result<String, String> {
    parse_with_format(text).map(|(nanos, format)| write(nanos, format))
}

fn parse_with_format(text: &str) -> Result<(i128, Format), String> {
    let text = text.trim();
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') || !suffix_is_plausible(suffix) {
        return Err(WRONG_FORMAT.to_owned());
    }
    let (scale, format) = parse_suffix(suffix).ok_or_else(|| WRONG_SUFFIX.to_owned())?;
    let magnitude = nanos(whole, fraction, scale);
    Ok((if negative { -magnitude } else { magnitude }, format))
}

/// Whether a suffix has the form of the regular expression in [`WRONG_FORMAT`].
fn suffix_is_plausible(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    digits.bytes().all(|b| b.is_ascii_digit())
}

fn parse_suffix(suffix: &str) -> Option<(Scale, Format)> {
    let decimal = |exponent| Some((Scale::Ten(exponent), Format::Decimal));
    let binary = |exponent| Some((Scale::Two(exponent), Format::Binary));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
            Some((Scale::Ten(exponent), Format::Exponent))
        }
    }
}

/// `whole.fraction` scaled, in nanos: rounded up to a whole nano, cut at the largest amount.
fn nanos(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let max = UNITS_MAX * NANO;
    let digits: String = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let fraction_len = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let (ten, two) = match scale {
        Scale::Ten(exponent) => (exponent.saturating_add(9).saturating_sub(fraction_len), 0),
        Scale::Two(exponent) => (9_i32.saturating_sub(fraction_len), exponent),
    };
    // Where the units digit of the result stands decides without arithmetic whether it fits at all.
    let magnitude = i64::try_from(digits.len()).unwrap_or(i64::MAX) + i64::from(ten);
    if magnitude > 29 {
        return max;
    }
    if magnitude < -30 {
        return 1;
    }
    scaled(digits, ten, two).map_or(max, |value| value.min(max))
}

/// `digits × 10^ten × 2^two`, rounded up; `None` if it does not fit.
fn scaled(digits: &str, ten: i32, two: u32) -> Option<i128> {
    // Digits below a nano only matter for rounding up: what is cut off here leaves a mark.
    let below_one = usize::try_from(-ten).unwrap_or(0);
    let spare = if two > 0 { digits.len().saturating_sub(19) } else { 0 };
    let cut = below_one.saturating_sub(20).max(spare.min(below_one)).min(digits.len());
    let (kept, lost) = digits.split_at(digits.len() - cut);
    let lossy = lost.bytes().any(|b| b != b'0');
    let mut value: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    let ten = ten + i32::try_from(cut).ok()?;
    if lossy {
        value = value.checked_mul(10)?.checked_add(1)?;
    }
    let ten = if lossy { ten - 1 } else { ten };
    let value = value.checked_mul(1_i128.checked_shl(two)?)?;
    match u32::try_from(ten) {
        Ok(up) => value.checked_mul(10_i128.checked_pow(up)?),
        Err(_) => {
            let divisor = 10_i128.checked_pow(ten.unsigned_abs())?;
            Some(value / divisor + i128::from(value % divisor != 0))
        }
    }
}

fn write(nanos: i128, format: Format) -> String {
    let units = nanos / NANO;
    // Small and fractional amounts have no exact or no readable binary form.
    if format == Format::Binary && nanos % NANO == 0 && !(-1023..=1023).contains(&units) {
        let mut value = units;
        let mut power = 0;
        while value % 1024 == 0 && power < 6 {
            value /= 1024;
            power += 1;
        }
        let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power];
        return format!("{value}{suffix}");
    }
    decimal(
        nanos,
        if format == Format::Exponent {
            Format::Exponent
        } else {
            Format::Decimal
        },
    )
}

fn decimal(nanos: i128, format: Format) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let mut value = nanos;
    let mut exponent = -9_i32;
    while value % 1000 == 0 && exponent < 18 {
        value /= 1000;
        exponent += 3;
    }
    if format == Format::Exponent {
        return if exponent == 0 {
            value.to_string()
        } else {
            format!("{value}e{exponent}")
        };
    }
    let suffix = match exponent {
        -9 => "n",
        -6 => "u",
        -3 => "m",
        3 => "k",
        6 => "M",
        9 => "G",
        12 => "T",
        15 => "P",
        18 => "E",
        _ => "",
    };
    format!("{value}{suffix}")
}

/// `nanos / divisor` rounded towards positive infinity, held within i64.
fn ceil_i64(nanos: i128, divisor: i128) -> i64 {
    let quotient = nanos.div_euclid(divisor) + i128::from(nanos.rem_euclid(divisor) != 0);
    i64::try_from(quotient).unwrap_or(if quotient < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_forms() {
        let table = [
            ("0.1", "100m"),
            ("1024Ki", "1Mi"),
            ("1000m", "1"),
            ("1Gi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100", "100"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("0Gi", "0"),
            ("0", "0"),
            ("-0.5", "-500m"),
            ("+1", "1"),
            ("512", "512"),
            ("1Ki", "1Ki"),
            ("1023", "1023"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("0.0000000001", "1n"),
            ("0.00000000000000000000000000000000000000000000000000000001", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("1e100", "9223372036854775807"),
            ("100Ei", "9223372036854775807"),
            ("1.", "1"),
            ("10e-3", "10e-3"),
            ("3k", "3k"),
            ("1234567", "1234567"),
        ];
        for (given, expected) in table {
            assert_eq!(canonical(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_said_in_upstreams_words() {
        for text in ["", "abc", "1.2.3", "-", "1 Gi", "1x", "Gi", "1Gi5x", "--1"] {
            assert_eq!(parse(text), Err(WRONG_FORMAT.to_owned()), "{text}");
        }
        for text in ["1GiB", "1mm", "1K", "1ee3", "1Gi5"] {
            let expected = if text == "1GiB" { WRONG_FORMAT } else { WRONG_SUFFIX };
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        assert_eq!(parse("100m").map(Quantity::units), Ok(1));
        assert_eq!(parse("-100m").map(Quantity::units), Ok(0));
        assert_eq!(parse("1.0001").map(Quantity::millis), Ok(1001));
        assert_eq!(parse("1Gi").map(Quantity::units), Ok(1 << 30));
    }

    #[test]
    fn sums_and_differences_are_exact() {
        let total: Quantity = ["100m", "0.2", "1"].iter().map(|t| parse(t).unwrap()).sum();
        assert_eq!(total.to_decimal(), "1300m");
        assert_eq!((parse("1Gi").unwrap() - parse("1Mi").unwrap()).to_binary(), "1023Mi");
        assert_eq!(Quantity::from_units(2048).to_binary(), "2Ki");
    }

    proptest! {
        #[test]
        fn canonical_is_idempotent_and_keeps_the_value(
            text in r"[+-]?[0-9]{1,12}(\.[0-9]{0,12})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]|E[0-9])?"
        ) {
            let once = canonical(&text).unwrap();
            prop_assert_eq!(canonical(&once).unwrap(), once.clone());
            prop_assert_eq!(parse(&once).unwrap(), parse(&text).unwrap());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let parsed = parse(&text);
            prop_assert_eq!(parsed.is_ok(), canonical(&text).is_ok());
        }
    }
}
