//! Frames (SPDY/3, 2.2): data with a stream's number, or control with a type.

use super::Broken;
use bytes::{Buf, Bytes, BytesMut};

/// Frames larger than this end the connection.
const LARGEST: usize = 1 << 20;
const HEAD: usize = 8;
const VERSION: u16 = 3;
/// The flag by which a sender ends its half of a stream.
const FIN: u8 = 1;

/// What a peer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream; its headers are packed.
    Open { stream: u32, fin: bool, block: Bytes },
    /// Bytes of a stream.
    Data { stream: u32, fin: bool, bytes: Bytes },
    /// A stream is broken off.
    Reset { stream: u32 },
    /// Are you there?
    Ping { id: u32 },
    /// No new streams will come.
    GoAway,
    /// Something that needs no answer: settings, windows (Kubernetes' clients keep none), replies.
    Other,
}

/// Takes a frame from what was read; `None` when it is not there in full.
pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, Broken> {
    let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
    let (first, second) = ((u32::from(head[0]) << 24) | be24(&head[1..4]), be24(&head[5..8]));
    let (flags, length) = (head[4], second as usize);
    if length > LARGEST {
        return Err(Broken("a frame is too large"));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let mut body = buffer.split_to(length).freeze();
    let fin = flags & FIN != 0;
    if first >> 31 == 0 {
        return Ok(Some(Frame::Data { stream: first, fin, bytes: body }));
    }
    if (first >> 16) as u16 & 0x7fff != VERSION {
        return Err(Broken("another version of SPDY"));
    }
    let mut number = || {
        if body.len() < 4 { Err(Broken("a control frame is too short")) } else { Ok(body.get_u32()) }
    };
    Ok(Some(match first as u16 {
        1 => {
            let stream = number()? & 0x7fff_ffff;
            let _associated = number()?;
            if body.len() < 2 {
                return Err(Broken("a control frame is too short"));
            }
            // Priority and credential slot.
            body.advance(2);
            Frame::Open { stream, fin, block: body }
        }
        3 => Frame::Reset { stream: number()? & 0x7fff_ffff },
        6 => Frame::Ping { id: number()? },
        7 => Frame::GoAway,
        _ => Frame::Other,
    }))
}

fn be24(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, b| (n << 8) | u32::from(*b))
}

fn control(kind: u16, flags: u8, body: &[&[u8]]) -> Vec<u8> {
    let length: usize = body.iter().map(|b| b.len()).sum();
    let mut out = Vec::with_capacity(HEAD + length);
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&((u32::from(flags) << 24) | length as u32).to_be_bytes());
    body.iter().for_each(|b| out.extend_from_slice(b));
    out
}

/// The answer to a new stream.
pub(super) fn reply(stream: u32, block: &[u8]) -> Vec<u8> {
    control(2, 0, &[&stream.to_be_bytes(), block])
}

/// The answer to a ping.
pub(super) fn pong(id: u32) -> Vec<u8> {
    control(6, 0, &[&id.to_be_bytes()])
}

/// Breaks a stream off: 1 is a protocol error, 3 a refusal.
pub(super) fn reset(stream: u32, status: u32) -> Vec<u8> {
    control(3, 0, &[&stream.to_be_bytes(), &status.to_be_bytes()])
}

/// Bytes of a stream.
pub(super) fn data(stream: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + bytes.len());
    out.extend_from_slice(&(stream & 0x7fff_ffff).to_be_bytes());
    out.extend_from_slice(&((u32::from(fin) << 24) | bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<Frame>, Broken> {
        let mut buffer = BytesMut::from(bytes);
        let mut out = Vec::new();
        while let Some(frame) = take(&mut buffer)? {
            out.push(frame);
        }
        Ok(out)
    }

    #[test]
    fn frames_are_read_when_they_are_whole() {
        let mut bytes = data(5, true, b"ab");
        bytes.extend(pong(7));
        bytes.extend(reset(5, 1));
        let want = [
            Frame::Data { stream: 5, fin: true, bytes: Bytes::from_static(b"ab") },
            Frame::Ping { id: 7 },
            Frame::Reset { stream: 5 },
        ];
        assert_eq!(all(&bytes).unwrap(), want);
        assert_eq!(all(&bytes[..bytes.len() - 1]).unwrap(), want[..2]);
    }

    #[test]
    fn a_new_stream_has_a_block_after_its_ten_bytes() {
        let bytes = control(1, 0, &[&9u32.to_be_bytes(), &0u32.to_be_bytes(), &[0, 0], b"block"]);
        let want = Frame::Open { stream: 9, fin: false, block: Bytes::from_static(b"block") };
        assert_eq!(all(&bytes).unwrap(), [want]);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..24)
                .map(|i| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // Mostly control frames of the right version, so that bodies are reached.
                    match i {
                        0 if state >> 63 == 0 => 0x80,
                        1 => 3,
                        2 | 5 | 6 => 0,
                        _ => (state >> 56) as u8 & 0x1f,
                    }
                })
                .collect();
            let _ = all(&bytes);
        }
        assert!(all(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff]).is_err());
    }
}
