//! The names of the protocols and what differs between them.

use crate::session::TerminalSize;
use crate::status;
use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// The channel numbers of the websocket protocols.
pub(crate) mod channel {
    pub(crate) const STDIN: u8 = 0;
    pub(crate) const STDOUT: u8 = 1;
    pub(crate) const STDERR: u8 = 2;
    pub(crate) const ERROR: u8 = 3;
    pub(crate) const RESIZE: u8 = 4;
    /// v5 only: the next byte names a channel that its sender ends.
    pub(crate) const CLOSE: u8 = 255;
}

/// How the result is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResultForm {
    /// v4 and later: a `Status` object, also for success.
    Status,
    /// Earlier: the message of a failure.
    Text,
}

impl ResultForm {
    /// The bytes for the error stream, if any.
    pub(crate) fn encode(self, result: &Value) -> Option<Bytes> {
        match self {
            Self::Status => Some(Bytes::from(result.to_string())),
            Self::Text => status::plain_text(result).map(Bytes::from),
        }
    }

    /// The result, from all that came on the error stream.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Value> {
        match self {
            Self::Status => serde_json::from_slice(bytes).ok(),
            Self::Text if bytes.is_empty() => Some(status::success()),
            Self::Text => Some(status::internal_error(&String::from_utf8_lossy(bytes))),
        }
    }
}

/// One websocket subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WebSocketProtocol {
    pub(crate) name: &'static str,
    pub(crate) result: ResultForm,
    /// Input can be ended while output goes on.
    pub(crate) half_close: bool,
    /// Text frames: a digit, then base64.
    pub(crate) base64: bool,
}

const fn binary(name: &'static str, result: ResultForm, half_close: bool) -> WebSocketProtocol {
    WebSocketProtocol {
        name,
        result,
        half_close,
        base64: false,
    }
}

const fn base64(name: &'static str, result: ResultForm) -> WebSocketProtocol {
    WebSocketProtocol {
        name,
        result,
        half_close: false,
        base64: true,
    }
}

pub(crate) const WEBSOCKET_PROTOCOLS: [WebSocketProtocol; 7] = [
    binary("v5.channel.k8s.io", ResultForm::Status, true),
    binary("v4.channel.k8s.io", ResultForm::Status, false),
    base64("v4.base64.channel.k8s.io", ResultForm::Status),
    binary("v3.channel.k8s.io", ResultForm::Text, false),
    binary("v2.channel.k8s.io", ResultForm::Text, false),
    binary("channel.k8s.io", ResultForm::Text, false),
    base64("base64.channel.k8s.io", ResultForm::Text),
];

/// One version of the SPDY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpdyProtocol {
    pub(crate) name: &'static str,
    pub(crate) result: ResultForm,
    /// A stream for resizes is made if there is a terminal.
    pub(crate) resizes: bool,
}

pub(crate) const SPDY_PROTOCOLS: [SpdyProtocol; 4] = [
    SpdyProtocol {
        name: "v4.channel.k8s.io",
        result: ResultForm::Status,
        resizes: true,
    },
    SpdyProtocol {
        name: "v3.channel.k8s.io",
        result: ResultForm::Text,
        resizes: true,
    },
    SpdyProtocol {
        name: "v2.channel.k8s.io",
        result: ResultForm::Text,
        resizes: false,
    },
    SpdyProtocol {
        name: "channel.k8s.io",
        result: ResultForm::Text,
        resizes: false,
    },
];

/// The longest JSON text of one resize; more than this without an end is not a resize.
const RESIZE_BYTES_MAX: usize = 4096;

/// Reads terminal sizes out of a stream of JSON objects, wherever it is cut.
#[derive(Debug, Default)]
pub(crate) struct ResizeReader(BytesMut);

impl ResizeReader {
    /// Takes more of the stream; gives the sizes that are complete now. Other objects are skipped.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<TerminalSize> {
        self.0.extend_from_slice(bytes);
        let mut sizes = Vec::new();
        let mut objects = serde_json::Deserializer::from_slice(&self.0).into_iter::<Value>();
        let mut broken = false;
        loop {
            match objects.next() {
                Some(Ok(object)) => sizes.extend(serde_json::from_value::<TerminalSize>(object)),
                Some(Err(error)) => {
                    broken = !error.is_eof();
                    break;
                }
                None => break,
            }
        }
        let read = objects.byte_offset();
        if broken || self.0.len() - read > RESIZE_BYTES_MAX {
            self.0.clear();
        } else {
            drop(self.0.split_to(read));
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resizes_are_read_wherever_they_are_cut() {
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Height\":2} {\"x\":1}";
        let expected = [
            TerminalSize { width: 80, height: 24 },
            TerminalSize { width: 1, height: 2 },
        ];
        for cut in 0..text.len() {
            let mut reader = ResizeReader::default();
            let mut sizes = reader.read(&text[..cut]);
            sizes.extend(reader.read(&text[cut..]));
            assert_eq!(sizes, expected, "cut at {cut}");
        }
        let mut reader = ResizeReader::default();
        assert_eq!(reader.read(b"rubbish"), []);
        assert_eq!(reader.read(b"{\"Width\":1,\"Height\":2}"), expected[1..]);
    }
}
