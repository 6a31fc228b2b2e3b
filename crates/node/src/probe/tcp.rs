//! A TCP connection.

use super::{Outcome, dial_error};
use std::time::Duration;
use tokio::net::TcpStream;

pub(super) async fn ask(host: &str, port: u16, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(dial_error(host, port, &error)),
        Err(_) => Outcome::Failure(dial_error(host, port, &std::io::ErrorKind::TimedOut.into())),
    }
}
