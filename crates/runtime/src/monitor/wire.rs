//! The frames between the server and a monitor: a kind, a length, the bytes.

/// The kind of a frame, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the monitor: bytes for standard input; none of them closes it.
    Stdin = 0,
    /// To the monitor: the terminal's width and height, two bytes each.
    Resize = 1,
    /// To the monitor: open the log file again.
    Reopen = 2,
    /// To the monitor: start the created container.
    Start = 3,
    /// To the monitor: send me what the container writes.
    Attach = 4,
    /// To the monitor: tell me when it ends.
    Watch = 5,
    /// From the monitor: the request was carried out.
    Done = 10,
    /// From the monitor: it was not, because …
    Failed = 11,
    /// From the monitor: standard output.
    Stdout = 12,
    /// From the monitor: standard error.
    Stderr = 13,
    /// From the monitor: the container has ended, and its exit record is on disk.
    Exited = 14,
}

const KINDS: [Kind; 11] = [
    Kind::Stdin,
    Kind::Resize,
    Kind::Reopen,
    Kind::Start,
    Kind::Attach,
    Kind::Watch,
    Kind::Done,
    Kind::Failed,
    Kind::Stdout,
    Kind::Stderr,
    Kind::Exited,
];

/// The kind byte and the length.
pub(crate) const HEADER_SIZE_BYTES: usize = 5;

/// No side sends more at once; a longer frame is not one of ours.
pub(crate) const PAYLOAD_SIZE_BYTES_MAX: usize = 64 * 1024;

/// A frame ready to be sent.
pub(crate) fn encode(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(PAYLOAD_SIZE_BYTES_MAX)];
    let length = u32::try_from(payload.len()).expect("the payload was cut to its limit");
    let mut frame = Vec::with_capacity(HEADER_SIZE_BYTES + payload.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The kind and length a header announces; nothing if it is not one of ours.
pub(crate) fn header(bytes: [u8; HEADER_SIZE_BYTES]) -> Option<(Kind, usize)> {
    let [kind, length @ ..] = bytes;
    let kind = KINDS.into_iter().find(|known| *known as u8 == kind)?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (length <= PAYLOAD_SIZE_BYTES_MAX).then_some((kind, length))
}

/// A frame's kind, its payload, and how long the frame is.
pub(crate) type Frame<'a> = (Kind, &'a [u8], usize);

/// The first whole frame in `bytes`.
///
/// # Errors
/// If the bytes are no frame of ours.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, NotAFrame> {
    let Some(start) = bytes.first_chunk::<HEADER_SIZE_BYTES>() else {
        return Ok(None);
    };
    let (kind, length) = header(*start).ok_or(NotAFrame)?;
    let end = HEADER_SIZE_BYTES + length;
    Ok(bytes.get(HEADER_SIZE_BYTES..end).map(|payload| (kind, payload, end)))
}

/// The other side does not speak our protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of the monitor protocol")]
pub(crate) struct NotAFrame;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_back() {
        let mut bytes = encode(Kind::Stdin, b"abc");
        bytes.extend(encode(Kind::Exited, b""));
        let (kind, payload, used) = decode(&bytes).expect("ours").expect("whole");
        assert_eq!((kind, payload), (Kind::Stdin, b"abc".as_slice()));
        assert_eq!(decode(&bytes[used..]), Ok(Some((Kind::Exited, b"".as_slice(), 5))));
        assert_eq!(decode(&bytes[..7]), Ok(None));
        assert_eq!(decode(&[200, 0, 0, 0, 0]), Err(NotAFrame));
        assert_eq!(decode(&[0, 255, 0, 0, 0]), Err(NotAFrame));
    }
}
