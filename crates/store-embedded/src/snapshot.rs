//! The whole present of a store as one file that proves its own integrity.
//!
//! `steadfast snapshot 1\n`, then little-endian numbers of 64 bits: revision, last lease, count of leases, each lease
//! (id, milliseconds), count of keys, each key (length of key, length of value, create revision, mod revision, version,
//! lease, key, value). The SHA-256 of all that ends the file.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::time::Duration;
use store::KeyValue;
use store::index::Loaded;

const MAGIC: &[u8] = b"steadfast snapshot 1\n";

/// No key or value is longer; a damaged length must not make us ask for all memory.
const LENGTH_MAX: u64 = 1 << 30;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read, or ends too early.
    #[error("the snapshot cannot be read to its end")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error("this is no snapshot of Steadfast")]
    NotASnapshot,
    /// What was written is not what is read.
    #[error("the snapshot is damaged")]
    Damaged,
}

/// Writes contents.
///
/// # Errors
/// Those of `out`.
pub fn write(contents: &Loaded, out: impl Write) -> io::Result<()> {
    let mut out = Hashing::new(BufWriter::new(out));
    out.write_all(MAGIC)?;
    let number = |out: &mut Hashing<_>, number: u64| out.write_all(&number.to_le_bytes());
    number(&mut out, contents.revision)?;
    number(&mut out, contents.last_lease)?;
    number(&mut out, contents.leases.len() as u64)?;
    for (id, ttl) in &contents.leases {
        number(&mut out, *id)?;
        number(&mut out, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))?;
    }
    number(&mut out, contents.keys.len() as u64)?;
    for kv in &contents.keys {
        let numbers = [
            kv.key.len() as u64,
            kv.value.len() as u64,
            kv.create_revision,
            kv.mod_revision,
            kv.version,
            kv.lease.unwrap_or(0),
        ];
        for value in numbers {
            number(&mut out, value)?;
        }
        out.write_all(kv.key.as_bytes())?;
        out.write_all(&kv.value)?;
    }
    let Hashing { mut inner, hash } = out;
    inner.write_all(&hash.finalize())?;
    inner.flush()
}

/// Reads contents, and only returns them if they are what was written.
///
/// # Errors
/// See [`SnapshotError`].
pub fn read(input: impl Read) -> Result<Loaded, SnapshotError> {
    let mut input = Hashing::new(BufReader::new(input));
    let mut magic = [0; MAGIC.len()];
    match input.read_exact(&mut magic) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        Ok(()) if magic == MAGIC => {}
        _ => return Err(SnapshotError::NotASnapshot),
    }
    let mut loaded = Loaded {
        revision: number(&mut input)?,
        last_lease: number(&mut input)?,
        ..Loaded::default()
    };
    for _ in 0..number(&mut input)? {
        let lease = (number(&mut input)?, Duration::from_millis(number(&mut input)?));
        loaded.leases.push(lease);
    }
    for _ in 0..number(&mut input)? {
        loaded.keys.push(key_value(&mut input)?);
    }
    let Hashing { mut inner, hash } = input;
    let mut written = [0; 32];
    inner.read_exact(&mut written)?;
    let ends = inner.read(&mut [0])? == 0;
    if !ends || hash.finalize()[..] != written {
        return Err(SnapshotError::Damaged);
    }
    Ok(loaded)
}

fn key_value(input: &mut impl Read) -> Result<KeyValue, SnapshotError> {
    let (key, value) = (number(input)?, number(input)?);
    let (create_revision, mod_revision, version) = (number(input)?, number(input)?, number(input)?);
    let lease = Some(number(input)?).filter(|lease| *lease != 0);
    let key = String::from_utf8(bytes(input, key)?).map_err(|_| SnapshotError::Damaged)?;
    Ok(KeyValue {
        key: key.into(),
        value: Bytes::from(bytes(input, value)?),
        create_revision,
        mod_revision,
        version,
        lease,
    })
}

fn number(input: &mut impl Read) -> Result<u64, SnapshotError> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn bytes(input: &mut impl Read, length: u64) -> Result<Vec<u8>, SnapshotError> {
    if length > LENGTH_MAX {
        return Err(SnapshotError::Damaged);
    }
    let mut bytes = Vec::new();
    // Grows with what is there, whatever the length says.
    input.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// Hashes what passes.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hash.update(&data[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Loaded {
        let kv = |key: &str, value: &'static str, lease| KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: 2,
            mod_revision: 7,
            version: 3,
            lease,
        };
        Loaded {
            revision: 9,
            keys: vec![kv("/a", "one", None), kv("/b", "", Some(4))],
            leases: vec![(4, Duration::from_secs(60))],
            last_lease: 5,
        }
    }

    fn written() -> Vec<u8> {
        let mut file = Vec::new();
        write(&contents(), &mut file).unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let read = read(&*written()).unwrap();
        let expected = contents();
        assert_eq!((read.revision, read.last_lease), (9, 5));
        assert_eq!((read.keys, read.leases), (expected.keys, expected.leases));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_found() {
        let file = written();
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 0x20;
            assert!(read(&*damaged).is_err(), "a change of byte {place} was not found");
            assert!(read(&file[..place]).is_err(), "a cut at byte {place} was not found");
        }
        assert!(read(&*[&*file, b"x"].concat()).is_err());
        assert!(matches!(read(&b"PK"[..]), Err(SnapshotError::NotASnapshot)));
    }
}
