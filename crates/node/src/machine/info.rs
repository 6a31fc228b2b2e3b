//! What the machine says of itself.

use super::first_line;
use crate::config::NodeConfig;
use crate::runtime_state::RuntimeState;
use std::fs;
use trireme_schema::{Map, Value};

/// The machine's architecture in Go's words.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The node's system information.
pub(crate) fn node_info(config: &NodeConfig, runtime: &RuntimeState) -> Value {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os =
        release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux").trim_matches('"').to_owned();
    let uname = rustix::system::uname();
    let container = format!("{}://{}", runtime.name, runtime.version);
    let kernel = uname.release().to_string_lossy().into_owned();
    let fields: [(&str, &str); 10] = [
        ("machineID", &first_line("/etc/machine-id")),
        ("systemUUID", &first_line("/sys/class/dmi/id/product_uuid")),
        ("bootID", &first_line("/proc/sys/kernel/random/boot_id")),
        ("kernelVersion", &kernel),
        ("osImage", &os),
        ("containerRuntimeVersion", &container),
        ("kubeletVersion", &config.version),
        ("kubeProxyVersion", ""),
        ("operatingSystem", "linux"),
        ("architecture", arch()),
    ];
    let mut info = Value::Object(Map::from_iter(fields));
    let swap = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    info.set_at(&["swap", "capacity"], super::number_after(&swap, "SwapTotal:").unwrap_or_default() * 1024);
    info
}
