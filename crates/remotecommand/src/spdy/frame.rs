//! Frames and their bytes. SPDY 3.1, section 2.2 and 2.6.

use super::Error;
use super::headers::{Decoder, Encoder, Headers};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest control frame that is taken.
const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// Data is handed on in pieces of at most this size, however long its frame is.
pub(crate) const DATA_PIECE_BYTES: usize = 32 * 1024;

const VERSION: u16 = 3;
const CONTROL_BIT: u8 = 0x80;
const ID_MASK: u32 = 0x7fff_ffff;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
/// The setting for the first window of a stream.
const SETTING_INITIAL_WINDOW: u32 = 7;

/// Why a stream is reset.
pub(crate) mod reset {
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const INVALID_STREAM: u32 = 2;
    pub(crate) const REFUSED_STREAM: u32 = 3;
    pub(crate) const CANCEL: u32 = 5;
}

/// One frame, or one piece of a data frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        stream: u32,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Settings {
        initial_window: Option<u32>,
    },
    Ping(u32),
    GoAway {
        last_stream: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
    },
    WindowUpdate {
        stream: u32,
        delta: u32,
    },
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    /// A type that this program does not know; to be skipped.
    Unknown,
}

/// The data frame that is being read.
struct Unfinished {
    stream: u32,
    fin: bool,
    left: usize,
}

/// Reads frames.
pub(crate) struct FrameReader<R> {
    from: R,
    decoder: Decoder,
    unfinished: Option<Unfinished>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            decoder: Decoder::new(),
            unfinished: None,
        }
    }

    /// The next frame; `None` at the end between two frames. Not cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, Error> {
        if let Some(unfinished) = self.unfinished.take() {
            return self.data(unfinished).await.map(Some);
        }
        let mut head = [0; 8];
        if self.from.read(&mut head[..1]).await.map_err(Error::Io)? == 0 {
            return Ok(None);
        }
        self.from.read_exact(&mut head[1..]).await.map_err(Error::Io)?;
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if head[0] & CONTROL_BIT == 0 {
            let stream = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            return self
                .data(Unfinished {
                    stream,
                    fin: flags & FLAG_FIN != 0,
                    left: length,
                })
                .await
                .map(Some);
        }
        if u16::from_be_bytes([head[0] & !CONTROL_BIT, head[1]]) != VERSION {
            return Err(Error::Version);
        }
        if length > CONTROL_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let mut body = vec![0; length];
        self.from.read_exact(&mut body).await.map_err(Error::Io)?;
        self.control(u16::from_be_bytes([head[2], head[3]]), flags, &body)
            .map(Some)
    }

    async fn data(&mut self, mut unfinished: Unfinished) -> Result<Frame, Error> {
        let piece = unfinished.left.min(DATA_PIECE_BYTES);
        let mut bytes = BytesMut::zeroed(piece);
        self.from.read_exact(&mut bytes).await.map_err(Error::Io)?;
        unfinished.left -= piece;
        let Unfinished { stream, fin, left } = unfinished;
        let fin = fin && left == 0;
        if left > 0 {
            self.unfinished = Some(unfinished);
        }
        Ok(Frame::Data {
            stream,
            fin,
            bytes: bytes.freeze(),
        })
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Frame, Error> {
        let fin = flags & FLAG_FIN != 0;
        let mut rest = body;
        let mut number = || rest.try_get_u32().map_err(|_| Error::TooShort);
        Ok(match kind {
            1 => {
                let stream = number()? & ID_MASK;
                let packed = body.get(10..).ok_or(Error::TooShort)?;
                let headers = self.decoder.decode(packed)?;
                Frame::SynStream {
                    stream,
                    fin,
                    unidirectional: flags & FLAG_UNIDIRECTIONAL != 0,
                    headers,
                }
            }
            2 | 8 => {
                let stream = number()? & ID_MASK;
                // Nobody needs these, but they belong to the compressed stream.
                self.decoder.decode(rest)?;
                if kind == 2 {
                    Frame::SynReply { stream, fin }
                } else {
                    Frame::Headers { stream, fin }
                }
            }
            3 => Frame::Reset {
                stream: number()? & ID_MASK,
                status: number()?,
            },
            4 => settings(rest)?,
            6 => Frame::Ping(number()?),
            7 => Frame::GoAway {
                last_stream: number()? & ID_MASK,
            },
            9 => Frame::WindowUpdate {
                stream: number()? & ID_MASK,
                delta: number()? & ID_MASK,
            },
            _ => Frame::Unknown,
        })
    }
}

fn settings(mut body: &[u8]) -> Result<Frame, Error> {
    let count = body.try_get_u32().map_err(|_| Error::TooShort)?;
    let mut initial_window = None;
    for _ in 0..count {
        let id = body.try_get_u32().map_err(|_| Error::TooShort)? & 0x00ff_ffff;
        let value = body.try_get_u32().map_err(|_| Error::TooShort)?;
        if id == SETTING_INITIAL_WINDOW {
            initial_window = Some(value & ID_MASK);
        }
    }
    Ok(Frame::Settings { initial_window })
}

/// Writes frames.
pub(crate) struct FrameWriter<W> {
    to: W,
    encoder: Encoder,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(crate) fn new(to: W) -> Self {
        Self {
            to,
            encoder: Encoder::new(),
        }
    }

    pub(crate) async fn write(&mut self, frame: &Frame) -> Result<(), Error> {
        let head = match frame {
            Frame::Data { stream, fin, bytes } => data_head(*stream, *fin, bytes.len())?,
            _ => self.control(frame)?,
        };
        self.to.write_all(&head).await.map_err(Error::Io)?;
        if let Frame::Data { bytes, .. } = frame {
            self.to.write_all(bytes).await.map_err(Error::Io)?;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        self.to.flush().await.map_err(Error::Io)
    }

    pub(crate) async fn shutdown(&mut self) -> Result<(), Error> {
        self.to.shutdown().await.map_err(Error::Io)
    }

    fn control(&mut self, frame: &Frame) -> Result<BytesMut, Error> {
        let mut body = Vec::new();
        let mut flags = 0;
        let kind: u16 = match frame {
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
            } => {
                flags = (u8::from(*fin) * FLAG_FIN) | (u8::from(*unidirectional) * FLAG_UNIDIRECTIONAL);
                body.put_u32(*stream);
                // Not associated to another stream, of the highest priority, without a credential slot.
                body.put_u32(0);
                body.put_u16(0);
                body.extend(self.encoder.encode(headers)?);
                1
            }
            Frame::SynReply { stream, fin } | Frame::Headers { stream, fin } => {
                flags = if *fin { FLAG_FIN } else { 0 };
                body.put_u32(*stream);
                body.extend(self.encoder.encode(&[])?);
                if matches!(frame, Frame::SynReply { .. }) { 2 } else { 8 }
            }
            Frame::Reset { stream, status } => put_two(&mut body, 3, *stream, *status),
            Frame::Settings { initial_window } => {
                body.put_u32(u32::from(initial_window.is_some()));
                initial_window.map_or(4, |window| put_two(&mut body, 4, SETTING_INITIAL_WINDOW, window))
            }
            Frame::Ping(id) => {
                body.put_u32(*id);
                6
            }
            Frame::GoAway { last_stream } => put_two(&mut body, 7, *last_stream, 0),
            Frame::WindowUpdate { stream, delta } => put_two(&mut body, 9, *stream, *delta),
            Frame::Data { .. } | Frame::Unknown => return Err(Error::TooShort),
        };
        let mut bytes = BytesMut::with_capacity(8 + body.len());
        bytes.put_u16(u16::from(CONTROL_BIT) << 8 | VERSION);
        bytes.put_u16(kind);
        bytes.put_u32(flags_and_length(flags, body.len())?);
        bytes.put_slice(&body);
        Ok(bytes)
    }
}

fn put_two(body: &mut Vec<u8>, kind: u16, first: u32, second: u32) -> u16 {
    body.put_u32(first);
    body.put_u32(second);
    kind
}

fn data_head(stream: u32, fin: bool, length: usize) -> Result<BytesMut, Error> {
    let mut head = BytesMut::with_capacity(8);
    head.put_u32(stream);
    head.put_u32(flags_and_length(if fin { FLAG_FIN } else { 0 }, length)?);
    Ok(head)
}

fn flags_and_length(flags: u8, length: usize) -> Result<u32, Error> {
    let length = u32::try_from(length)
        .ok()
        .filter(|length| *length < 1 << 24)
        .ok_or(Error::TooLong)?;
    Ok(u32::from(flags) << 24 | length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back() {
        let headers = vec![("streamtype".to_owned(), "stdin".to_owned())];
        let long = Bytes::from(vec![7; DATA_PIECE_BYTES + 1]);
        let frames = [
            Frame::Settings {
                initial_window: Some(1000),
            },
            Frame::SynStream {
                stream: 1,
                fin: false,
                unidirectional: false,
                headers: headers.clone(),
            },
            Frame::SynReply { stream: 1, fin: false },
            Frame::SynStream {
                stream: 3,
                fin: true,
                unidirectional: true,
                headers,
            },
            Frame::Headers { stream: 3, fin: true },
            Frame::Data {
                stream: 1,
                fin: false,
                bytes: Bytes::from_static(b"hello"),
            },
            Frame::Data {
                stream: 1,
                fin: true,
                bytes: Bytes::new(),
            },
            Frame::Ping(5),
            Frame::WindowUpdate { stream: 0, delta: 99 },
            Frame::Reset { stream: 3, status: 5 },
            Frame::GoAway { last_stream: 3 },
            Frame::Settings { initial_window: None },
        ];
        let mut writer = FrameWriter::new(Vec::new());
        for frame in &frames {
            writer.write(frame).await.unwrap();
        }
        writer
            .write(&Frame::Data {
                stream: 9,
                fin: true,
                bytes: long.clone(),
            })
            .await
            .unwrap();
        let mut reader = FrameReader::new(writer.to.as_slice());
        for frame in frames {
            assert_eq!(reader.next().await.unwrap().unwrap(), frame);
        }
        let first = Frame::Data {
            stream: 9,
            fin: false,
            bytes: long.slice(1..),
        };
        assert_eq!(reader.next().await.unwrap().unwrap(), first);
        let second = Frame::Data {
            stream: 9,
            fin: true,
            bytes: long.slice(..1),
        };
        assert_eq!(reader.next().await.unwrap().unwrap(), second);
        assert!(reader.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn damaged_frames_are_errors() {
        let damaged: [&[u8]; 5] = [
            &[0x80, 3, 0],
            &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
            &[0x80, 3, 0, 6, 0, 0, 0, 0],
            &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1],
        ];
        for bytes in damaged {
            assert!(FrameReader::new(bytes).next().await.is_err(), "{bytes:?}");
        }
        let unknown: &[u8] = &[0x80, 3, 0, 77, 0, 0, 0, 1, 5];
        assert_eq!(FrameReader::new(unknown).next().await.unwrap(), Some(Frame::Unknown));
    }
}
