//! Header blocks: name-value pairs, compressed with zlib over the whole life of a connection.
//!
//! SPDY 3.1, section 2.6.10.

use super::Error;
use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::sync::LazyLock;

/// The longest header block, uncompressed.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

/// How much room (de)compression gets at a time.
const STEP_BYTES: usize = 4096;

/// Pairs of a lower-case name and a value; a name may be repeated.
pub type Headers = Vec<(String, String)>;

/// The compressing side of one connection.
#[derive(Debug)]
pub(crate) struct Encoder(Compress);

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut zlib = Compress::new(Compression::default(), true);
        zlib.set_dictionary(&DICTIONARY)
            .expect("a new stream takes a dictionary");
        Self(zlib)
    }

    pub(crate) fn encode(&mut self, headers: &[(String, String)]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        let merged = merge(headers);
        put_length(&mut plain, merged.len())?;
        for (name, value) in &merged {
            put_length(&mut plain, name.len())?;
            plain.put_slice(name.as_bytes());
            put_length(&mut plain, value.len())?;
            plain.put_slice(value.as_bytes());
        }
        let start = self.0.total_in();
        let mut packed = Vec::new();
        loop {
            let done = usize::try_from(self.0.total_in() - start).map_err(|_| Error::BadHeaders)?;
            packed.reserve(STEP_BYTES);
            let room = packed.capacity() - packed.len();
            let before = packed.len();
            self.0
                .compress_vec(&plain[done..], &mut packed, FlushCompress::Sync)
                .map_err(|_| Error::BadHeaders)?;
            // Room that was left over means that everything is flushed.
            if packed.len() - before < room {
                return Ok(packed);
            }
        }
    }
}

/// The same name may appear once only; its values are separated by NUL.
fn merge(headers: &[(String, String)]) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                values.push('\0');
                values.push_str(value);
            }
            None => merged.push((name, value.clone())),
        }
    }
    merged
}

fn put_length(to: &mut Vec<u8>, length: usize) -> Result<(), Error> {
    to.put_u32(u32::try_from(length).map_err(|_| Error::BadHeaders)?);
    Ok(())
}

/// The decompressing side of one connection. Each block must be decoded, also those of refused streams.
#[derive(Debug)]
pub(crate) struct Decoder(Decompress);

impl Decoder {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub(crate) fn decode(&mut self, packed: &[u8]) -> Result<Headers, Error> {
        let plain = self.inflate(packed)?;
        parse(&plain).ok_or(Error::BadHeaders)
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<Vec<u8>, Error> {
        let start = self.0.total_in();
        let mut plain = Vec::new();
        loop {
            let done = usize::try_from(self.0.total_in() - start).map_err(|_| Error::BadHeaders)?;
            plain.reserve(STEP_BYTES);
            let room = plain.capacity() - plain.len();
            let before = plain.len();
            match self
                .0
                .decompress_vec(&packed[done..], &mut plain, FlushDecompress::Sync)
            {
                Ok(Status::StreamEnd) => return Err(Error::BadHeaders),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| Error::BadHeaders)?;
                    continue;
                }
                Err(_) => return Err(Error::BadHeaders),
            }
            if plain.len() > BLOCK_BYTES_MAX {
                return Err(Error::BadHeaders);
            }
            if plain.len() - before < room {
                return Ok(plain);
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Option<Headers> {
    let count = plain.try_get_u32().ok()?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut plain)?;
        let values = text(&mut plain)?;
        headers.extend(values.split('\0').map(|value| (name.clone(), value.to_owned())));
    }
    Some(headers)
}

fn text(plain: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(plain.try_get_u32().ok()?).ok()?;
    let (text, rest) = plain.split_at_checked(length)?;
    *plain = rest;
    String::from_utf8(text.to_vec()).ok()
}

/// What both sides pretend to have seen already: first the words, each after its length, then the rest.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut dictionary = Vec::new();
    for word in WORDS {
        put_length(&mut dictionary, word.len()).expect("the words are short");
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(REST.as_bytes());
    dictionary
});

const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

const REST: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Au",
    "thoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidd",
    "en404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr Ma",
    "y Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag",
    "e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicpri",
    "vatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.",
);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn dictionary_is_that_of_the_standard() {
        let mut zlib = Compress::new(Compression::default(), true);
        assert_eq!(DICTIONARY.len(), 1423);
        assert_eq!(zlib.set_dictionary(&DICTIONARY).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn blocks_come_back_over_one_connection() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let long = "x".repeat(3 * STEP_BYTES);
        let noise: String = (0..20_000u32)
            .map(|i| {
                char::from(b'!' + u8::try_from(i.wrapping_mul(i).wrapping_mul(2_654_435_761) >> 16 & 0x3f).unwrap())
            })
            .collect();
        let blocks = [
            vec![pair("streamtype", "error")],
            vec![],
            vec![
                pair("streamtype", "data"),
                pair("port", "80"),
                pair("x", &long),
                pair("y", &noise),
            ],
            vec![pair("a", "1"), pair("a", "2")],
        ];
        for block in blocks {
            let packed = encoder.encode(&block).unwrap();
            assert_eq!(decoder.decode(&packed).unwrap(), block);
        }
    }

    #[test]
    fn rubbish_is_an_error() {
        assert!(Decoder::new().decode(b"rubbish").is_err());
        let bomb = Encoder::new().encode(&[pair("bomb", &"0".repeat(1 << 20))]).unwrap();
        assert!(Decoder::new().decode(&bomb).is_err());
    }
}
