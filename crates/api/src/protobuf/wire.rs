//! The protobuf wire format, as far as Kubernetes uses it.

use super::Error;

/// The content of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(&self, number: u32) -> Result<&'a [u8], Error> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Error::WireType(number)),
        }
    }

    pub(super) fn text(&self, number: u32) -> Result<&'a str, Error> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| Error::Text(number))
    }

    pub(super) fn integer(&self, number: u32) -> Result<i64, Error> {
        match self {
            Self::Varint(value) => Ok(value.cast_signed()),
            _ => Err(Error::WireType(number)),
        }
    }

    pub(super) fn double(&self, number: u32) -> Result<f64, Error> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(*bits)),
            Self::Fixed32(bits) => Ok(f32::from_bits(*bits).into()),
            _ => Err(Error::WireType(number)),
        }
    }
}

/// Reads the fields of a message one by one.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The number and content of the next field.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Error::End)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Error::End)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(Error::WireType(number)),
        };
        Ok(Some((number, wire)))
    }

    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::End)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| Error::End)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::End)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes the fields of a message one by one.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn varint(&mut self, number: u32, value: u64) {
        self.tag(number, 0);
        self.raw_varint(value);
    }

    pub(super) fn double(&mut self, number: u32, value: f64) {
        self.tag(number, 1);
        self.out.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    pub(super) fn bytes(&mut self, number: u32, content: &[u8]) {
        self.tag(number, 2);
        self.raw_varint(content.len() as u64);
        self.out.extend_from_slice(content);
    }

    /// The text of a JSON value, if it is one.
    pub(super) fn text(&mut self, number: u32, value: &serde_json::Value) {
        if let Some(text) = value.as_str() {
            self.bytes(number, text.as_bytes());
        }
    }

    /// A message within.
    pub(super) fn inner(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.out);
    }

    fn tag(&mut self, number: u32, wire_type: u64) {
        self.raw_varint(u64::from(number) << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.out.push(low & 0x7f);
                return;
            }
            self.out.push(low | 0x80);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_numbers_take_ten_bytes() {
        let mut bytes = vec![0x08];
        bytes.extend([0xff; 9]);
        bytes.push(0x01);
        let (number, wire) = Reader::new(&bytes).next().unwrap().unwrap();
        assert_eq!((number, wire.integer(1)), (1, Ok(-1)));
    }

    #[test]
    fn lengths_beyond_the_end_are_errors() {
        assert_eq!(Reader::new(&[0x0a, 0x05, 0x01]).next(), Err(Error::End));
        assert_eq!(Reader::new(&[0xff; 12]).next(), Err(Error::End));
    }
}
