//! The channel protocols over WebSocket (RFC 6455).

use crate::command::Wanted;
use crate::ending::words;
use crate::message::{frame, read};
use crate::protocol::{Codec, Protocol};
use crate::session::Session;
use crate::websocket;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// How long the client may take to close after us.
const PARTING: Duration = Duration::from_secs(5);
/// Closes the channel that its one byte names (v5).
const CLOSE: u8 = 255;

/// Messages that wait for a slow reader, in each direction.
const QUEUE: usize = 8;
/// An idle connection is kept alive by pings this often.
const PING: Duration = Duration::from_secs(30);

/// Columns and rows of `{"Width":80,"Height":24}`.
pub(crate) fn size(bytes: &[u8]) -> Option<(u16, u16)> {
    let size: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let number = |name: &str| size.get(name)?.as_u64()?.try_into().ok();
    Some((number("Width")?, number("Height")?))
}

/// What a message of the client means.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    Stdin(Bytes),
    StdinEnds,
    Resize(u16, u16),
    Nothing,
}

fn input(protocol: Protocol, channel: u8, bytes: Bytes) -> Input {
    match (channel, &bytes[..]) {
        (STDIN, _) => Input::Stdin(bytes),
        (RESIZE, text) => size(text).map_or(Input::Nothing, |(columns, rows)| Input::Resize(columns, rows)),
        (CLOSE, [STDIN]) if protocol.closes => Input::StdinEnds,
        _ => Input::Nothing,
    }
}

/// A place where output goes. What the client did not ask for is taken all the same, so that the process is not held up.
pub(crate) trait Sink {
    /// Takes a piece; false when the client has gone.
    fn take(&self, piece: &[u8]) -> impl Future<Output = bool> + Send;
}

/// A channel of the connection.
struct Channel<'a> {
    codec: Codec,
    number: u8,
    wanted: bool,
    out: &'a mpsc::Sender<Message>,
}

impl Sink for Channel<'_> {
    async fn take(&self, piece: &[u8]) -> bool {
        !self.wanted || self.out.send(frame(self.codec, self.number, piece)).await.is_ok()
    }
}

/// Sends all that a stream gives, until it ends or nobody takes it.
pub(crate) async fn pump(from: Option<Box<dyn AsyncRead + Send + Unpin>>, to: &(impl Sink + Sync)) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    // A terminal whose program has gone gives an error in place of an end.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if !to.take(&buffer[..n]).await {
            return;
        }
    }
}

/// Writes what comes to a process until there is no more. What a process does not want any more is thrown away.
pub(crate) async fn feed(to: Option<Box<dyn AsyncWrite + Send + Unpin>>, mut from: mpsc::Receiver<Bytes>) {
    let mut to = to;
    while let Some(bytes) = from.recv().await {
        if let Some(stdin) = &mut to
            && (stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err())
        {
            to = None;
        }
    }
    if let Some(mut stdin) = to {
        // A process that has gone already needs no end of its input.
        let _ = stdin.shutdown().await;
    }
}

/// Reads the client's messages until it goes. Stdin that is not taken holds back the client alone.
async fn listen(
    protocol: Protocol,
    mut messages: impl Stream<Item = Result<Message, Error>> + Unpin,
    resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    stdin: mpsc::Sender<Bytes>,
) {
    let mut stdin = Some(stdin);
    while let Some(Ok(message)) = messages.next().await {
        if matches!(message, Message::Close(_)) {
            return;
        }
        let Some((channel, bytes)) = read(protocol.codec, message) else { continue };
        match input(protocol, channel, bytes) {
            Input::Stdin(bytes) => {
                if let Some(open) = &stdin
                    && open.send(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Input::StdinEnds => stdin = None,
            Input::Resize(columns, rows) => resize(columns, rows),
            Input::Nothing => {}
        }
    }
}

/// Each direction waits for itself only: a process that does not read its input can still be heard, and a client
/// that does not read can still write.
pub(crate) async fn carry(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    protocol: Protocol,
    wanted: Wanted,
    session: Session,
) {
    let socket = websocket::serve(stream).await;
    let (mut sink, messages) = socket.split();
    let (out, mut queue) = mpsc::channel(QUEUE);
    let (input, inputs) = mpsc::channel(QUEUE);
    let codec = protocol.codec;
    let Session { stdin, stdout, stderr, resize, exit } = session;

    let process = async move {
        // Clients wait for a message before they believe in the connection.
        let lowest = match wanted {
            Wanted { stdout: true, .. } => STDOUT,
            Wanted { stderr: true, tty: false, .. } => STDERR,
            _ => ERROR,
        };
        let _ = out.send(frame(codec, lowest, b"")).await;
        let pings = async {
            let mut pings = tokio::time::interval(PING);
            loop {
                pings.tick().await;
                let _ = out.send(Message::Ping(Bytes::new())).await;
            }
        };
        // The end is told after all output, since clients stop to listen when they know it.
        let to_stdout = Channel { codec, number: STDOUT, wanted: wanted.stdout, out: &out };
        let to_stderr = Channel { codec, number: STDERR, wanted: wanted.stderr, out: &out };
        let all = async { tokio::join!(pump(stdout, &to_stdout), pump(stderr, &to_stderr), exit).2 };
        let outcome = tokio::select! {
            outcome = all => outcome,
            () = pings => return,
        };
        let words = words(protocol.ending, &outcome);
        if !words.is_empty() {
            let _ = out.send(frame(codec, ERROR, &words)).await;
        }
        // Clients take any other code for a failure.
        let _ = out.send(Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))).await;
    };
    let write = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    // Neither the end of stdin nor that of the process ends the session, but the last message or a failed one does.
    let work = async {
        tokio::join!(process, feed(stdin, inputs));
        std::future::pending::<()>().await;
    };
    let mut listening = std::pin::pin!(listen(protocol, messages, resize, input));
    tokio::select! {
        () = write => {}
        () = &mut listening => return,
        () = work => {}
    }
    // To close with words of the client unread would reset the connection, and what we said last would be lost. So
    // they are read, and thrown away since the process takes no more, until he has closed as well.
    let _ = tokio::time::timeout(PARTING, listening).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;
    use crate::session::Outcome;
    use tokio::io::DuplexStream;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[test]
    fn sizes_are_read_and_nonsense_is_not() {
        assert_eq!(size(br#"{"Width":80,"Height":24}"#), Some((80, 24)));
        assert_eq!(size(br#"{"Width":80}"#), None);
        assert_eq!(size(b"\xff"), None);
    }

    fn protocol(name: &str) -> Protocol {
        protocol::choose(&[name], &protocol::WEBSOCKET).unwrap()
    }

    fn v5() -> Protocol {
        protocol("v5.channel.k8s.io")
    }

    #[test]
    fn messages_of_clients_are_understood() {
        let (v4, v5) = (protocol("v4.channel.k8s.io"), v5());
        let input = |protocol, channel, bytes: &'static [u8]| input(protocol, channel, Bytes::from_static(bytes));
        assert_eq!(input(v5, STDIN, b"ab"), Input::Stdin(Bytes::from_static(b"ab")));
        assert_eq!(input(v5, CLOSE, b"\x00"), Input::StdinEnds);
        assert_eq!(input(v4, CLOSE, b"\x00"), Input::Nothing);
        assert_eq!(input(v5, RESIZE, b"{\"Width\":8,\"Height\":2}"), Input::Resize(8, 2));
        assert_eq!(input(v5, RESIZE, b"nonsense"), Input::Nothing);
        assert_eq!(input(v5, 9, b"x"), Input::Nothing);
    }

    /// A session over streams in memory: the client's end, and the process's ends of stdin and stdout.
    async fn session(
        protocol: Protocol,
        exit: impl Future<Output = Outcome> + Send + 'static,
    ) -> (WebSocketStream<DuplexStream>, DuplexStream, DuplexStream) {
        let (near, far) = tokio::io::duplex(1 << 10);
        let (stdin, reads) = tokio::io::duplex(1 << 10);
        let (stdout, writes) = tokio::io::duplex(1 << 10);
        let session = Session {
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(stdout)),
            stderr: None,
            resize: Box::new(|_, _| {}),
            exit: Box::pin(exit),
        };
        let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
        tokio::spawn(carry(far, protocol, wanted, session));
        (WebSocketStream::from_raw_socket(near, Role::Client, None).await, reads, writes)
    }

    async fn next(client: &mut WebSocketStream<DuplexStream>) -> Bytes {
        let wait = async {
            loop {
                match client.next().await.unwrap().unwrap() {
                    // The first, by which the client knows that it is heard.
                    Message::Binary(bytes) if &bytes[..] == b"\x01" => {}
                    Message::Binary(bytes) => return bytes,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap()
    }

    #[tokio::test]
    async fn a_process_is_let_go_when_its_client_goes_with_input_unread() {
        let (held, let_go) = tokio::sync::oneshot::channel::<()>();
        let exit = async move {
            let _held = held;
            std::future::pending().await
        };
        let (mut client, _unread, mut stdout) = session(v5(), exit).await;
        // One message is being written, the queue is full, and one waits for room in it.
        for _ in 0..QUEUE + 2 {
            client.send(frame(Codec::Raw, STDIN, &[7; 4 << 10])).await.unwrap();
        }
        drop(client);
        stdout.write_all(b"nobody hears it").await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), let_go).await;
        assert!(ended.is_ok_and(|dropped| dropped.is_err()));
    }

    #[tokio::test]
    async fn output_is_heard_of_a_process_that_does_not_read_its_input() {
        let (mut client, _unread, mut stdout) = session(v5(), std::future::pending()).await;
        // More than the pipe of the process holds, less than the queue.
        client.send(frame(Codec::Raw, STDIN, &[7; 4 << 10])).await.unwrap();
        stdout.write_all(b"here").await.unwrap();
        assert_eq!(&next(&mut client).await[..], b"\x01here");
    }

    #[tokio::test]
    async fn the_end_of_stdin_reaches_the_process_and_all_output_comes_before_the_exit() {
        let (mut client, mut stdin, mut stdout) = session(v5(), std::future::ready(Outcome::Exit(0))).await;
        client.send(frame(Codec::Raw, STDIN, b"in")).await.unwrap();
        client.send(frame(Codec::Raw, CLOSE, &[STDIN])).await.unwrap();
        let mut read = Vec::new();
        stdin.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"in");
        stdout.write_all(b"last").await.unwrap();
        drop(stdout);
        assert_eq!(&next(&mut client).await[..], b"\x01last");
        assert_eq!(next(&mut client).await[0], ERROR);
        let closed = client.next().await.unwrap().unwrap();
        assert!(matches!(closed, Message::Close(Some(CloseFrame { code: CloseCode::Normal, .. }))), "{closed:?}");
    }

    #[tokio::test]
    async fn an_older_client_speaks_base64_and_hears_of_a_failure_in_words() {
        let exit = std::future::ready(Outcome::Exit(7));
        let (mut client, mut stdin, mut stdout) = session(protocol("base64.channel.k8s.io"), exit).await;
        client.send(Message::text("0aW4=")).await.unwrap();
        let mut read = [0; 2];
        stdin.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"in");
        stdout.write_all(b"out").await.unwrap();
        drop(stdout);
        let mut texts = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Message::Text(text) = message {
                texts.push(text.to_string());
            }
        }
        let failure = frame(Codec::Base64, ERROR, b"command terminated with non-zero exit code: exit status 7");
        assert_eq!(texts, ["1", "1b3V0", failure.to_text().unwrap()]);
    }
}
