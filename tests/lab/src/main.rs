//! Serves an API server of its own, empty and without controllers or nodes, over TLS.
//!
//! ```text
//! trireme-lab 127.0.0.1:7001                    until Ctrl-C; the administrator's token is "lab"
//! trireme-lab 127.0.0.1:0 COMMAND ARGUMENT…     while the command runs, which finds the URL in $SERVER, the token in $TOKEN
//! ```

#![allow(clippy::print_stdout)] // where it listens is what it has to say

use std::error::Error;
use std::process::{Command, ExitCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trireme_lab::{Lab, TOKEN};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: trireme-lab ADDRESS:PORT [COMMAND ARGUMENT…]")?;
    let listener = TcpListener::bind(address).await?;
    let url = format!("https://{}", listener.local_addr()?);
    let lab = Lab::new().await?;
    let stop = CancellationToken::new();
    let work = async {
        let code = match arguments.next() {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(arguments).env("SERVER", &url).env("TOKEN", TOKEN);
                let status = tokio::task::spawn_blocking(move || command.status()).await??;
                ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
            }
            None => {
                println!("{url} token {TOKEN}");
                tokio::signal::ctrl_c().await?;
                ExitCode::SUCCESS
            }
        };
        stop.cancel();
        Ok(code)
    };
    let (served, code) = tokio::join!(lab.serve(listener, stop.clone()), work);
    served?;
    code
}
