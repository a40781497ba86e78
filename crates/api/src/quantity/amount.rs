//! An amount that remembers how it was written, for sums that people read.

use super::{Format, Quantity, parse_with_format, write};

/// A quantity with its family of suffixes: a sum of `Mi` is told in `Mi`.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// How much it is.
    pub quantity: Quantity,
    format: Format,
}

impl Amount {
    /// Parses an amount.
    ///
    /// # Errors
    /// Upstream's words for text that is no quantity.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (nanos, format) = parse_with_format(text)?;
        let quantity = Quantity { nanos };
        Ok(Self { quantity, format })
    }

    /// A number of things.
    pub fn count(count: usize) -> Self {
        let quantity = Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
        let format = Format::Decimal;
        Self { quantity, format }
    }

    /// The same, rounded up to whole units.
    #[must_use]
    pub fn rounded_up(self) -> Self {
        let quantity = Quantity::from_units(self.quantity.units());
        Self { quantity, ..self }
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.quantity == Quantity::default()
    }

    fn with(self, other: Self, quantity: Quantity) -> Self {
        // Nothing is not written in any particular way.
        let format = if self.is_zero() { other.format } else { self.format };
        Self { quantity, format }
    }
}

impl Default for Amount {
    fn default() -> Self {
        Self::count(0)
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.quantity == other.quantity
    }
}

impl std::ops::Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.with(other, self.quantity + other.quantity)
    }
}

impl std::ops::Sub for Amount {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.with(other, self.quantity - other.quantity)
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&write(self.quantity.nanos, self.format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_written_like_its_first_part() {
        let amount = |text: &str| Amount::parse(text).unwrap();
        let check = |sum: Amount, expected: &str| assert_eq!(sum.to_string(), expected);
        check(amount("1Gi") + amount("1Mi"), "1025Mi");
        check(Amount::default() + amount("2048Ki"), "2Mi");
        check(amount("100m") + amount("1"), "1100m");
        check(amount("1Gi") - amount("1Gi"), "0");
        check(amount("1500m").rounded_up(), "2");
    }
}
