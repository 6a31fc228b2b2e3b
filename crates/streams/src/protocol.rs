//! The protocols of streams, as clients of all ages name them.

/// How what a process came to is told on the error channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As text, and only if it failed (before v4).
    Text,
    /// As a `Status` in JSON.
    Json,
}

/// How messages of a WebSocket are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// Binary: a byte for the channel, then the bytes.
    Raw,
    /// Text: a digit for the channel, then the bytes in base64.
    Base64,
}

/// A protocol whose messages name channels (over WebSocket), or whose streams have types (over SPDY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: &'static str,
    pub(crate) codec: Codec,
    pub(crate) ending: Ending,
    /// A client can end a channel: the byte 255 and the channel's (v5).
    pub(crate) closes: bool,
    /// A client opens a stream for the terminal's size (SPDY, v3).
    pub(crate) resizes: bool,
}

const fn protocol(name: &'static str, codec: Codec, ending: Ending) -> Protocol {
    Protocol { name, codec, ending, closes: false, resizes: true }
}

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const V3: &str = "v3.channel.k8s.io";
const V2: &str = "v2.channel.k8s.io";
const V1: &str = "channel.k8s.io";
const V4_BASE64: &str = "v4.base64.channel.k8s.io";
const V1_BASE64: &str = "base64.channel.k8s.io";

/// Remote commands over WebSocket. A client that names no protocol speaks the first.
pub(crate) const WEBSOCKET: [Protocol; 6] = [
    protocol("", Codec::Raw, Ending::Text),
    protocol(V1, Codec::Raw, Ending::Text),
    protocol(V1_BASE64, Codec::Base64, Ending::Text),
    protocol(V4, Codec::Raw, Ending::Json),
    protocol(V4_BASE64, Codec::Base64, Ending::Json),
    Protocol { closes: true, ..protocol(V5, Codec::Raw, Ending::Json) },
];

/// Remote commands over SPDY.
pub(crate) const SPDY: [Protocol; 4] = [
    protocol(V4, Codec::Raw, Ending::Json),
    protocol(V3, Codec::Raw, Ending::Text),
    Protocol { resizes: false, ..protocol(V2, Codec::Raw, Ending::Text) },
    Protocol { resizes: false, ..protocol(V1, Codec::Raw, Ending::Text) },
];

/// Forwarded ports in channels of a WebSocket.
pub(crate) const PORT_CHANNELS: [Protocol; 3] = [
    protocol("", Codec::Raw, Ending::Text),
    protocol(V4, Codec::Raw, Ending::Text),
    protocol(V4_BASE64, Codec::Base64, Ending::Text),
];

/// The first that the client offers of those that we speak.
pub(crate) fn choose(offers: &[&str], ours: &[Protocol]) -> Option<Protocol> {
    offers.iter().find_map(|offer| ours.iter().find(|p| p.name == *offer)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_order_decides() {
        for (offers, chosen) in [
            (&[V5, V4][..], Some(V5)),
            (&[V4, V5], Some(V4)),
            (&["chat", V1_BASE64], Some(V1_BASE64)),
            (&[""], Some("")),
            (&["chat"], None),
            (&[], None),
        ] {
            assert_eq!(choose(offers, &WEBSOCKET).map(|p| p.name), chosen, "{offers:?}");
        }
        // Only over WebSocket.
        assert_eq!(choose(&[V5], &SPDY), None);
    }
}
