//! SPDY/3.1, the server's end, as far as Kubernetes' clients speak it: streams that they open, data both ways, no windows.
//!
//! What a peer sends is bounded: frames, header blocks, streams, and what waits to be read. A stream that is not read
//! holds its connection back, as it does upstream.

mod dictionary;
mod frame;
mod headers;

use bytes::{Bytes, BytesMut};
use frame::Frame;
use headers::{Headers, Packer, Unpacker};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Frames that wait for a slow peer, and pieces of a stream that wait to be read.
const QUEUE: usize = 32;
/// Streams that are open at once.
const STREAMS: usize = 1_000;
/// How long the client may take to close when all was said.
const PARTING: Duration = Duration::from_secs(5);
const PROTOCOL_ERROR: u32 = 1;
const REFUSED: u32 = 3;

/// A peer does not speak the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(&'static str);

/// A stream that the client opened.
pub(crate) struct Stream {
    headers: Headers,
    /// What the client sends; closed when it has ended its half.
    pub(crate) input: mpsc::Receiver<Bytes>,
    /// The way back.
    pub(crate) output: Output,
}

/// Our half of a stream.
#[derive(Clone)]
pub(crate) struct Output {
    id: u32,
    queue: mpsc::Sender<Out>,
}

enum Out {
    Accept(u32),
    Frame(Vec<u8>),
}

impl Stream {
    /// A header; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

impl Output {
    /// Sends bytes; false when nobody takes them any more.
    pub(crate) async fn send(&self, bytes: &[u8]) -> bool {
        self.queue.send(Out::Frame(frame::data(self.id, false, bytes))).await.is_ok()
    }

    /// Ends our half.
    pub(crate) async fn end(&self) {
        // A connection that has gone needs no end.
        let _ = self.queue.send(Out::Frame(frame::data(self.id, true, b""))).await;
    }
}

/// Serves a connection: `work` gets the streams that the client opens; when it returns, or the client goes, all is over.
pub(crate) async fn serve<W: Future<Output = ()>>(
    connection: impl AsyncRead + AsyncWrite + Unpin,
    work: impl FnOnce(mpsc::Receiver<Stream>) -> W,
) {
    let (reader, mut writer) = tokio::io::split(connection);
    let (queue, mut queued) = mpsc::channel(QUEUE);
    let (opened, streams) = mpsc::channel(QUEUE);
    let write = async {
        let mut packer = Packer::new();
        while let Some(out) = queued.recv().await {
            let bytes = match out {
                Out::Accept(stream) => frame::reply(stream, &packer.pack(&[])),
                Out::Frame(bytes) => bytes,
            };
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    let read = async {
        if let Err(error) = read(reader, opened, queue).await {
            tracing::debug!(%error, "a SPDY connection was broken off");
        }
    };
    let mut write = std::pin::pin!(write);
    let mut read = std::pin::pin!(read);
    tokio::select! {
        () = &mut write => return,
        () = &mut read => return,
        () = work(streams) => {}
    }
    // What was said last is still to be written, and the client closes when it has read it.
    let parting = async {
        tokio::select! {
            () = write => {}
            () = read => {}
        }
    };
    let _ = tokio::time::timeout(PARTING, parting).await;
}

/// Serves a client that says these bytes and no more, and answers what it says on each stream: for fuzzing.
#[doc(hidden)]
pub async fn serve_bytes(bytes: &[u8]) {
    let connection = tokio::io::join(bytes, tokio::io::sink());
    let work = |mut streams: mpsc::Receiver<Stream>| async move {
        while let Some(mut stream) = streams.recv().await {
            let _ = stream.header("streamtype");
            while let Some(bytes) = stream.input.recv().await {
                stream.output.send(&bytes).await;
            }
            stream.output.end().await;
        }
    };
    serve(connection, work).await;
}

async fn read(
    mut reader: impl AsyncRead + Unpin,
    opened: mpsc::Sender<Stream>,
    queue: mpsc::Sender<Out>,
) -> Result<(), Broken> {
    let mut unpacker = Unpacker::new();
    let mut inputs: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        while let Some(frame) = frame::take(&mut buffer)? {
            let answer = match frame {
                Frame::Open { stream, fin, block } => {
                    let headers = unpacker.unpack(&block)?;
                    inputs.retain(|_, input| !input.is_closed());
                    if inputs.contains_key(&stream) {
                        Some(Out::Frame(frame::reset(stream, PROTOCOL_ERROR)))
                    } else if inputs.len() >= STREAMS {
                        Some(Out::Frame(frame::reset(stream, REFUSED)))
                    } else {
                        let (sender, input) = mpsc::channel(QUEUE);
                        if !fin {
                            inputs.insert(stream, sender);
                        }
                        if queue.send(Out::Accept(stream)).await.is_err() {
                            return Ok(());
                        }
                        let output = Output { id: stream, queue: queue.clone() };
                        // Work that is done takes no more streams.
                        let _ = opened.send(Stream { headers, input, output }).await;
                        None
                    }
                }
                Frame::Data { stream, fin, bytes } => {
                    if let Some(input) = inputs.get(&stream)
                        && !bytes.is_empty()
                    {
                        // Nobody reads the stream any more: what comes is thrown away.
                        let _ = input.send(bytes).await;
                    }
                    if fin {
                        inputs.remove(&stream);
                    }
                    None
                }
                Frame::Reset { stream } => {
                    inputs.remove(&stream);
                    None
                }
                // Even numbers answer pings of ours, of which there are none.
                Frame::Ping { id } => (id % 2 == 1).then(|| Out::Frame(frame::pong(id))),
                Frame::GoAway | Frame::Other => None,
            };
            if let Some(answer) = answer
                && queue.send(answer).await.is_err()
            {
                return Ok(());
            }
        }
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn open(stream: u32, packer: &mut Packer) -> Vec<u8> {
        let block = packer.pack(&[("streamtype", "stdin")]);
        let mut frame = vec![0x80, 3, 0, 1];
        frame.extend_from_slice(&(10 + block.len() as u32).to_be_bytes());
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&block);
        frame
    }

    #[tokio::test]
    async fn whatever_a_client_says_is_over_when_it_has_gone() {
        let mut packer = Packer::new();
        let mut all = open(1, &mut packer);
        // Twice, on streams that are not there, with and without an end.
        all.extend(open(1, &mut packer));
        for stream in [1, 3] {
            all.extend(frame::data(stream, false, &[7; 4096]));
            all.extend(frame::data(stream, true, b""));
        }
        all.extend(frame::pong(1));
        all.extend(frame::reset(1, 1));
        for end in (0..all.len()).step_by(7) {
            let served = tokio::time::timeout(Duration::from_secs(10), serve_bytes(&all[..end]));
            assert!(served.await.is_ok(), "{end} bytes");
        }
    }
}
