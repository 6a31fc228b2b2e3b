//! Port-forward in the channels of a WebSocket, as clients in browsers and in Python do it: the request names the ports,
//! and the port of number N has the channel 2N for its data and 2N + 1 for its errors. On each the server sends the port
//! first, as two bytes, the lower one before.

use crate::message::{frame, read};
use crate::port_forward::Dial;
use crate::protocol::Codec;
use crate::websocket;
use bytes::Bytes;
use futures::future::join_all;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Message;

/// Messages that wait for a slow reader, in each direction and for each port.
const QUEUE: usize = 8;

/// Carries one connection to each of the ports.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, codec: Codec, ports: Vec<u16>, dial: Dial) {
    let (mut sink, mut messages) = websocket::serve(stream).await.split();
    let (out, mut queue) = mpsc::channel(QUEUE);
    let (inputs, receivers): (Vec<_>, Vec<_>) = ports.iter().map(|_| mpsc::channel::<Bytes>(QUEUE)).unzip();
    let write = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // The client may have gone already.
        let _ = sink.close().await;
    };
    let listen = async {
        let mut inputs: Vec<_> = inputs.into_iter().map(Some).collect();
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, Message::Close(_)) {
                return;
            }
            let Some((channel, bytes)) = read(codec, message) else { continue };
            // The client writes to channels of data only.
            let port = inputs.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
            if let Some(input) = port
                && let Some(open) = input
                && open.send(bytes).await.is_err()
            {
                *input = None;
            }
        }
    };
    let work = async move {
        let numbered = ports.into_iter().zip(receivers).zip(0u8..);
        join_all(numbered.map(|((port, input), n)| {
            connection(Channels { codec, first: n * 2, out: out.clone() }, port, input, &dial)
        }))
        .await;
    };
    tokio::select! {
        () = listen => {}
        ((), ()) = async { tokio::join!(work, write) } => {}
    }
}

/// The channels of one port.
struct Channels {
    codec: Codec,
    first: u8,
    out: mpsc::Sender<Message>,
}

impl Channels {
    async fn send(&self, channel: u8, bytes: &[u8]) -> bool {
        self.out.send(frame(self.codec, self.first + channel, bytes)).await.is_ok()
    }
}

async fn connection(channels: Channels, port: u16, input: mpsc::Receiver<Bytes>, dial: &Dial) {
    for channel in [0, 1] {
        channels.send(channel, &port.to_le_bytes()).await;
    }
    match dial(port).await {
        Ok(socket) => {
            let (reader, writer) = socket.into_split();
            // Who has said all may still listen, but what nobody answers any more is over.
            tokio::select! {
                () = back(reader, &channels) => {}
                () = async { forth(input, writer).await; std::future::pending().await } => {}
            }
        }
        Err(why) => drop(channels.send(1, format!("error forwarding port {port} to pod: {why}").as_bytes()).await),
    }
}

async fn back(mut reader: impl AsyncRead + Unpin, channels: &Channels) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        if !channels.send(0, &buffer[..n]).await {
            return;
        }
    }
}

async fn forth(mut input: mpsc::Receiver<Bytes>, mut writer: impl AsyncWrite + Unpin) {
    while let Some(bytes) = input.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The other side may have closed already.
    let _ = writer.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::Arc;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[tokio::test]
    async fn each_port_has_a_channel_for_data_and_one_for_errors() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (mut reader, mut writer) = socket.split();
            tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        });
        let dial: Dial = Arc::new(move |port| {
            async move {
                match port {
                    80 => TcpStream::connect(address).await.map_err(|e| e.to_string()),
                    _ => Err("refused".to_owned()),
                }
            }
            .boxed()
        });
        let codec = Codec::Base64;
        let (near, far) = tokio::io::duplex(1 << 10);
        tokio::spawn(serve(far, codec, vec![80, 81], dial.clone()));
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        client.send(frame(codec, 0, b"hello")).await.unwrap();
        let mut seen = vec![Vec::new(); 4];
        while seen[0].len() < 7 || seen[3].len() < 3 {
            let (channel, bytes) = read(codec, client.next().await.unwrap().unwrap()).unwrap();
            seen[usize::from(channel)].extend_from_slice(&bytes);
        }
        assert_eq!(seen[0], b"\x50\x00hello");
        assert_eq!((&seen[1][..], &seen[2][..]), (&b"\x50\x00"[..], &b"\x51\x00"[..]));
        assert_eq!(seen[3], b"\x51\x00error forwarding port 81 to pod: refused");
    }
}
