//! A stream of bytes in the binary messages of a WebSocket: how kubectl carries SPDY since 1.30.

use crate::websocket;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::protocol::Message;

/// Bytes on their way in each direction.
const PIPE: usize = 64 << 10;

/// Serves what is in the tunnel.
pub(crate) async fn serve<W: Future<Output = ()>>(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    work: impl FnOnce(DuplexStream) -> W,
) {
    let socket = websocket::serve(connection).await;
    let (mut sink, mut messages) = socket.split();
    let (inner, outer) = tokio::io::duplex(PIPE);
    let (mut reader, mut writer) = tokio::io::split(outer);
    let inwards = async {
        while let Some(Ok(message)) = messages.next().await {
            match message {
                Message::Binary(bytes) if writer.write_all(&bytes).await.is_err() => return,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let outwards = async {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            if sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..n]))).await.is_err() {
                return;
            }
        }
        // The client may have gone already.
        let _ = sink.close().await;
    };
    tokio::select! {
        () = inwards => {}
        ((), ()) = async { tokio::join!(work(inner), outwards) } => {}
    }
}
