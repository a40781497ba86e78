//! Resource quantities such as `100m`, `1Gi`, `1e3`: parsing, canonical form, arithmetic.

/// An amount in nano-units, exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Quantity {
    /// The amount times 10^9.
    pub nanos: i128,
}

/// Parses a quantity.
///
/// # Errors
/// Upstream's words for text that is no quantity.
pub fn parse(_text: &str) -> Result<Quantity, String> {
    unimplemented!()
}

/// The canonical text of a quantity given as text, keeping its suffix family (`0.1` is `100m`, `1024Ki` is `1Mi`).
///
/// # Errors
/// Upstream's words for text that is no quantity.
pub fn canonical(_text: &str) -> Result<String, String> {
    unimplemented!()
}
