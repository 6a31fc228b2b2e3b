//! A CNI configuration for a container runtime that has none: pods get the node's addresses, and pass the node on their
//! way to each other, where services are.
//!
//! Who brings a configuration of their own needs none of this (`--cni-conf-dir` is not given then).

use crate::instance::Instance;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// Where the written file's path is kept in mind, below the data directory.
const WRITTEN: &str = "run/cni-conf";
/// Where the plugin `host-local` keeps which addresses are given out, below the data directory.
const ADDRESSES: &str = "run/cni-addresses";
/// The specification's version that runtimes of all ages know.
const VERSION: &str = "0.4.0";

/// Writes the configuration into the directory where the runtime looks for it.
///
/// # Errors
/// When it cannot be written.
pub fn write(instance: &Instance, dir: &Path, pod_cidrs: &[IpNet], mtu: Option<u32>) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let name = format!("trireme-{}", instance.id());
    let path = dir.canonicalize()?.join(format!("10-{name}.conflist"));
    let text = list(&name, &instance.path(ADDRESSES), pod_cidrs, mtu).to_string();
    // First in mind, then written: `down` removes what is there.
    let mind = instance.path(WRITTEN);
    std::fs::create_dir_all(instance.path("run"))?;
    std::fs::write(&mind, path.as_os_str().as_encoded_bytes())?;
    // The runtime watches the directory, and must not read half a file.
    let half = path.with_extension("half");
    std::fs::write(&half, text)?;
    std::fs::rename(&half, &path).map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// Removes what was written.
///
/// # Errors
/// When it cannot be removed.
pub fn remove(instance: &Instance) -> Result<()> {
    let path = match std::fs::read_to_string(instance.path(WRITTEN)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => PathBuf::from(other?),
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn list(name: &str, addresses: &Path, pod_cidrs: &[IpNet], mtu: Option<u32>) -> Value {
    let ranges: Vec<Value> = pod_cidrs.iter().map(|cidr| json!([{ "subnet": cidr.to_string() }])).collect();
    let everywhere = |cidr: &IpNet| json!({ "dst": if cidr.addr().is_ipv6() { "::/0" } else { "0.0.0.0/0" } });
    let routes: Vec<Value> = pod_cidrs.iter().map(everywhere).collect();
    // Point to point, not a bridge: on a bridge neighbours would go around the node, and answers of a service's
    // endpoint come from an address that was never asked.
    let mut link = json!({
        "type": "ptp",
        "ipam": { "type": "host-local", "dataDir": addresses, "ranges": ranges, "routes": routes },
    });
    if let (Some(mtu), Some(link)) = (mtu, link.as_object_mut()) {
        link.insert("mtu".into(), mtu.into());
    }
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    json!({ "cniVersion": VERSION, "name": name, "plugins": [link, ports] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_range_and_a_way_out() {
        let cidrs = ["10.42.1.0/24".parse().unwrap(), "fd42:1::/64".parse().unwrap()];
        let list = list("trireme-1", Path::new("/x"), &cidrs, Some(1430));
        let ipam = list.pointer("/plugins/0/ipam").unwrap();
        assert_eq!(ipam["ranges"], json!([[{"subnet": "10.42.1.0/24"}], [{"subnet": "fd42:1::/64"}]]));
        assert_eq!(ipam["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
        assert_eq!(list.pointer("/plugins/0/mtu"), Some(&json!(1430)));
    }

    #[test]
    fn what_is_written_is_removed_and_nothing_else() {
        let (data, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let instance = Instance::open(data.path()).unwrap();
        std::fs::write(dir.path().join("99-mine.conflist"), "{}").unwrap();
        remove(&instance).unwrap();
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        for _ in 0..2 {
            write(&instance, dir.path(), &["10.42.1.0/24".parse().unwrap()], None).unwrap();
            assert_eq!(
                names(),
                [format!("10-trireme-{}.conflist", instance.id()), "99-mine.conflist".into()]
                    .map(std::ffi::OsString::from)
            );
        }
        remove(&instance).unwrap();
        remove(&instance).unwrap();
        assert_eq!(names(), ["99-mine.conflist"]);
    }
}
