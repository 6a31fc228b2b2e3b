//! `trireme check-config`: what a start would refuse, all of it at once, without a start.

use crate::cli::{Common, Server};
use crate::usage::{self, Usage};
use crate::{Failure, images, print};
use trireme_telemetry::LogConfig;

/// Says that the configuration is fine, or everything that is wrong with it.
///
/// # Errors
/// What is wrong; the exit code is 2.
pub fn run(common: &Common, args: &Server) -> Result<(), Failure> {
    let found = problems(common, args);
    if found.is_empty() {
        return print::text("the configuration is fine\n");
    }
    Err(Usage(found.join("; ")).into())
}

fn problems(common: &Common, args: &Server) -> Vec<String> {
    let mut found = usage::server(args);
    let log = LogConfig { level: common.log_level.clone(), format: common.log_format };
    found.extend(trireme_telemetry::check(&log).err().map(|error| error.to_string()));
    found.extend(images::registries(&args.node.private_registry).err().map(|error| error.to_string()));
    let scheduling = crate::control_plane::scheduling(args.kube_scheduler_config.as_deref());
    found.extend(scheduling.err().map(|error| error.to_string()));
    if let Some(endpoint) = &args.node.container_runtime_endpoint
        && !std::path::Path::new(endpoint.trim_start_matches("unix://")).exists()
    {
        found.push(format!("--container-runtime-endpoint {endpoint}: there is no such socket"));
    }
    let resolv_conf = &args.node.resolv_conf;
    if let Err(error) = std::fs::metadata(resolv_conf) {
        found.push(format!("--resolv-conf {}: {error}", resolv_conf.display()));
    }
    if common.data_dir.exists() && !common.data_dir.is_dir() {
        found.push(format!("--data-dir {} is no directory", common.data_dir.display()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let registries = dir.path().join("registries.yaml");
        std::fs::write(&registries, "mirrors: 7\n").unwrap();
        let mut flags = vec!["trireme", "check-config", "--log-level", "loud=quiet=", "--cluster-dns", "10.42.0.10"];
        flags.extend(["--node-name", "Bad_Name", "--container-runtime-endpoint", "/none.sock"]);
        flags.extend(["--private-registry", registries.to_str().unwrap(), "--resolv-conf", "/none.conf"]);
        let Cli { common, command } = Cli::try_parse_from(flags).unwrap();
        let Command::CheckConfig(args) = command else { panic!() };
        let found = problems(&common, &args).join("\n");
        for part in ["--node-name", "--cluster-dns", "log level", "registries.yaml", "/none.sock", "/none.conf"] {
            assert!(found.contains(part), "{part} in: {found}");
        }
    }
}
