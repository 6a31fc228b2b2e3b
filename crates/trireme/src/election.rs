//! Who runs controllers and scheduler when several servers serve one cluster.
//!
//! A server alone is the leader by the lock of its data directory: nobody else can write to its store, so that a lease
//! would be two writes each two seconds that say nothing. With `--leader-elect` the parts work only while their lease is
//! theirs, each with informers of its own, so that a server that follows keeps nothing of the cluster's state for them.

use crate::address;
use crate::cli::LeaderElection;
use std::time::Duration;
use trireme_client::{Client, Elector, ElectorConfig};

/// A candidate for the lease of a part of the control plane; none when there is no election.
pub fn candidate(args: &LeaderElection, part: &str, client: Client, identity: &str) -> Option<Elector> {
    args.leader_elect.then(|| {
        let config = ElectorConfig {
            namespace: args.leader_elect_resource_namespace.clone(),
            lease: args.leader_elect_lease_duration,
            renew: args.leader_elect_renew_deadline,
            retry: args.leader_elect_retry_period,
            ..ElectorConfig::new(part, identity)
        };
        Elector::new(client, config)
    })
}

/// Who we are: the host, and something that no other start has, as upstream's components have it.
pub fn identity() -> Result<String, String> {
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(|error| format!("cannot read a random identity from the kernel: {error}"))?;
    Ok(format!("{}_{}", address::host_name(), random.trim()))
}

/// What the timing of an election must be (client-go `NewLeaderElector`).
pub fn problem(args: &LeaderElection) -> Option<String> {
    let LeaderElection {
        leader_elect_lease_duration: lease,
        leader_elect_renew_deadline: renew,
        leader_elect_retry_period: retry,
        ..
    } = args;
    if lease <= renew {
        return Some("--leader-elect-lease-duration must be greater than --leader-elect-renew-deadline".to_owned());
    }
    if *renew <= retry.mul_f64(1.2) {
        return Some("--leader-elect-renew-deadline must be greater than --leader-elect-retry-period*1.2".to_owned());
    }
    (*lease < Duration::from_secs(1) || retry.is_zero()).then(|| {
        "--leader-elect-lease-duration must be a second at least, and --leader-elect-retry-period not zero".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn timings_leave_room_for_ending_the_work() {
        for (flags, fine) in [
            (&[][..], true),
            (&["--leader-elect-lease-duration=5s", "--leader-elect-renew-deadline=5s"], false),
            (&["--leader-elect-lease-duration=5s", "--leader-elect-renew-deadline=3s"], true),
            (&["--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=3s"], false),
            (&["--leader-elect-retry-period=0s"], false),
        ] {
            let cli = Cli::try_parse_from(["trireme", "server"].iter().chain(flags)).unwrap();
            let Command::Server(server) = cli.command else { panic!("not a server") };
            assert_eq!(problem(&server.election).is_none(), fine, "{flags:?}");
        }
        assert_ne!(identity().unwrap(), identity().unwrap());
    }
}
