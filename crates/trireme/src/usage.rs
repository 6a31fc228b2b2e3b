//! Mistakes in flags that one flag alone does not show.

use crate::cidr::Cidr;
use crate::cli::{Node, Server};
use crate::{disable, election, node};
use std::net::IpAddr;

/// The command line, or the configuration file, asks for something that cannot be; the exit code is 2.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// What a server is told that does not fit together.
pub fn server(args: &Server) -> Vec<String> {
    let mut found: Vec<String> = disable::check(&args.disable).err().into_iter().collect();
    found.extend(node(&args.node));
    found.extend(election::problem(&args.election));
    let (pods, services) = (&args.cluster_cidr, &args.service_cidr);
    if pods.overlaps(services) {
        found.push(format!("--cluster-cidr {pods} and --service-cidr {services} overlap"));
    }
    match dns(args) {
        None => found.push(format!("--service-cidr {services} is too small")),
        Some(dns) if !services.contains(dns) => {
            found.push(format!("--cluster-dns {dns} is not in --service-cidr {services}"));
        }
        Some(_) => {}
    }
    found
}

/// Refuses a start for the first of the problems.
///
/// # Errors
/// If there is one.
pub fn none(problems: Vec<String>) -> Result<(), Usage> {
    problems.into_iter().next().map_or(Ok(()), |problem| Err(Usage(problem)))
}

/// The address of cluster DNS.
pub fn dns(args: &Server) -> Option<IpAddr> {
    args.cluster_dns.or_else(|| args.service_cidr.nth(10))
}

/// What a node is told that cannot be.
pub fn node(args: &Node) -> Vec<String> {
    let mut found: Vec<String> = node::labels(args).err().into_iter().chain(node::taints(args).err()).collect();
    let name = node::name(args);
    if !is_subdomain(&name) {
        found.push(format!(
            "--node-name {name:?} is not a name of lower case letters, digits, '-' and '.', with a letter or digit at \
             both ends"
        ));
    }
    found
}

/// A lower-case RFC 1123 subdomain.
pub fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().is_some_and(|b| inner(*b)) && bytes.last().is_some_and(|b| inner(*b));
        ends && bytes.iter().all(|b| inner(*b) || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A node needs root.
///
/// # Errors
/// What to do.
pub fn root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err("a node needs root (namespaces, mounts, control groups); use sudo, or --disable node".to_owned())
}

impl Cidr {
    fn contains(&self, address: IpAddr) -> bool {
        self.overlaps(&Self { network: address, prefix: if address.is_ipv4() { 32 } else { 128 } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn said(flags: &[&str]) -> String {
        let cli = Cli::try_parse_from(["trireme", "server"].iter().chain(flags)).unwrap();
        let Command::Server(args) = cli.command else { panic!() };
        server(&args).join("; ")
    }

    #[test]
    fn flags_that_do_not_fit_together_are_refused() {
        assert_eq!(said(&[]), "");
        for (flags, part) in [
            (&["--service-cidr", "10.42.128.0/20"][..], "overlap"),
            (&["--service-cidr", "10.50.0.0/30"], "too small"),
            (&["--cluster-dns", "10.42.0.10"], "--cluster-dns"),
            (&["--disable", "schedler"], "scheduler"),
            (&["--node-name", "Bad_Name"], "--node-name"),
            (&["--node-label", "x"], "--node-label"),
            (&["--node-taint", "x=y"], "--node-taint"),
        ] {
            assert!(said(flags).contains(part), "{flags:?}: {}", said(flags));
        }
    }
}
