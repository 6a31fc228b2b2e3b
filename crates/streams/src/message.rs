//! Messages of a WebSocket that name their channel.

use crate::protocol::Codec;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::Message;

/// Writes what goes to a channel.
pub(crate) fn frame(codec: Codec, channel: u8, bytes: &[u8]) -> Message {
    match codec {
        Codec::Raw => {
            let mut out = Vec::with_capacity(bytes.len() + 1);
            out.push(channel);
            out.extend_from_slice(bytes);
            Message::Binary(Bytes::from(out))
        }
        Codec::Base64 => {
            let mut out = String::with_capacity(bytes.len() * 4 / 3 + 5);
            out.push(char::from(b'0' + channel));
            BASE64_STANDARD.encode_string(bytes, &mut out);
            Message::Text(out.into())
        }
    }
}

/// Reads a channel and what goes to it; `None` for what is no such message. Clients may send either kind of message in
/// either form.
pub(crate) fn read(codec: Codec, message: Message) -> Option<(u8, Bytes)> {
    let mut bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Text(text) => Bytes::from(text),
        _ => return None,
    };
    if bytes.is_empty() {
        return None;
    }
    let rest = bytes.split_off(1);
    match codec {
        Codec::Raw => Some((bytes[0], rest)),
        Codec::Base64 => Some((bytes[0].checked_sub(b'0')?, BASE64_STANDARD.decode(rest).ok()?.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_written_and_read() {
        for (codec, written) in
            [(Codec::Raw, Message::binary(&b"\x01ab\xff"[..])), (Codec::Base64, Message::text("1YWL/"))]
        {
            assert_eq!(frame(codec, 1, b"ab\xff"), written);
            assert_eq!(read(codec, written), Some((1, Bytes::from_static(b"ab\xff"))));
        }
    }

    #[test]
    fn what_is_no_message_is_passed_over() {
        for (codec, message) in [
            (Codec::Raw, Message::binary(Vec::new())),
            (Codec::Base64, Message::text("")),
            (Codec::Base64, Message::text("0not base64!")),
            (Codec::Base64, Message::text("\u{1}YWI=")),
            (Codec::Raw, Message::Ping(Bytes::from_static(b"x"))),
        ] {
            assert_eq!(read(codec, message.clone()), None, "{message:?}");
        }
        assert_eq!(read(Codec::Base64, Message::binary(&b"0YWI="[..])), Some((0, Bytes::from_static(b"ab"))));
    }
}
