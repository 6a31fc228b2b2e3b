//! The `trireme` binary: command line, configuration, and the wiring of components into processes.

mod address;
mod agent;
mod certificates;
mod check;
mod cidr;
mod cli;
mod cluster_info;
mod cni_conf;
mod config;
mod control_plane;
mod demo;
mod disable;
mod down;
mod duration;
mod election;
mod external_runtime;
mod follow;
mod images;
mod instance;
mod life;
mod node;
mod pod_network;
mod ports;
mod print;
mod private;
mod progress;
mod reload;
mod security;
mod serve;
mod services;
mod shown;
mod signals;
mod simulate;
mod sockets;
mod streamer;
mod usage;
mod version;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use std::io::Write;
use std::process::ExitCode;

/// A command failed; the text says what and what to do.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == node::SHIM) {
        return shim(args.next());
    }
    let hidden = std::env::args_os().nth(1).is_some_and(|first| first == demo::app::COMMAND);
    let result = if hidden { demo::app::run(&std::env::args().nth(2).unwrap_or_default()) } else { run() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed standard error leaves the exit code.
            let _ = writeln!(std::io::stderr(), "trireme: {}", one_line(&failure.to_string()));
            if failure.is::<usage::Usage>() || failure.is::<config::Error>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// An error is one line, whatever a file or a server put into it.
fn one_line(text: &str) -> String {
    const LONGEST: usize = 1000;
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.trim_end().chars().take(LONGEST).map(printable).collect()
}

/// Becomes the shim of a pod: no threads, no runtime, no command line.
fn shim(dir: Option<std::ffi::OsString>) -> ExitCode {
    let dir = std::path::PathBuf::from(dir.unwrap_or_default());
    match trireme_runtime::shim::run(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<(), Failure> {
    let args = config::with_file(std::env::args_os().collect())?;
    let Cli { common, command } = Cli::parse_from(args);
    match command {
        Command::Up(up) => serve::run(&common, &up.server, up.demo),
        Command::Server(server) => serve::run(&common, &server, false),
        Command::Kubeconfig => print::kubeconfig(&common),
        Command::Config(config) => print::config(&common, &config),
        Command::CheckConfig(server) => check::run(&common, &server),
        Command::Version { output } => print::version(output),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "trireme", &mut std::io::stdout());
            Ok(())
        }
        Command::Agent(agent) => agent::run(&common, &agent),
        Command::Down => down::down(&common),
        Command::Uninstall(uninstall) => down::uninstall(&common, &uninstall),
        Command::Images(command) => images::run(&common, &command),
        Command::Simulate(args) => simulate::run(&common, &args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_the_lines_of_a_file_is_one_line() {
        assert_eq!(one_line("bad: root:x\ndaemon:\u{1b}[31m\n"), "bad: root:x daemon: [31m");
    }
}
