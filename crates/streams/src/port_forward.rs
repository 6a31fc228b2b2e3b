//! Port-forward over SPDY (`portforward.k8s.io`): for each connection the client opens a stream for errors and one for
//! data, which name the port and, by `requestID`, each other.

use crate::spdy::Stream;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Connects to a port of a pod; the error says why that cannot be done.
pub type Dial = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<TcpStream, String>> + Send + Sync>;

/// Streams for errors that wait for their data.
const WAITING: usize = 1_000;

/// Carries the connections of one client.
pub(crate) async fn serve(mut streams: mpsc::Receiver<Stream>, dial: Dial) {
    let mut errors: HashMap<String, Stream> = HashMap::new();
    let mut connections = JoinSet::new();
    while let Some(stream) = streams.recv().await {
        while connections.try_join_next().is_some() {}
        let request = stream.header("requestid").to_owned();
        match stream.header("streamtype") {
            "error" if errors.len() < WAITING => drop(errors.insert(request, stream)),
            "data" => {
                let error = errors.remove(&request);
                connections.spawn(connection(stream, error, dial.clone()));
            }
            _ => stream.output.end().await,
        }
    }
}

async fn connection(data: Stream, error: Option<Stream>, dial: Dial) {
    let outcome = match data.header("port").parse::<u16>() {
        Ok(port) if port > 0 => match dial(port).await {
            Ok(socket) => {
                copy(socket, data).await;
                Ok(())
            }
            Err(why) => {
                data.output.end().await;
                Err(format!("error forwarding port {port} to pod: {why}"))
            }
        },
        _ => {
            data.output.end().await;
            Err(format!("invalid port {:?}", data.header("port")))
        }
    };
    if let Some(error) = error {
        if let Err(why) = outcome {
            error.output.send(why.as_bytes()).await;
        }
        error.output.end().await;
    }
}

/// Both directions until both have ended.
async fn copy(socket: TcpStream, data: Stream) {
    let (reader, writer) = socket.into_split();
    let output = data.output;
    tokio::join!(
        async {
            back(reader, &output).await;
            output.end().await;
        },
        forth(data.input, writer)
    );
}

async fn back(mut reader: OwnedReadHalf, output: &crate::spdy::Output) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(n @ 1..) = reader.read(&mut buffer).await {
        if !output.send(&buffer[..n]).await {
            return;
        }
    }
}

async fn forth(mut input: mpsc::Receiver<Bytes>, mut writer: OwnedWriteHalf) {
    while let Some(bytes) = input.recv().await {
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The other side may have closed already.
    let _ = writer.shutdown().await;
}
