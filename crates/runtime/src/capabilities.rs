//! Capabilities by name (capabilities(7)).

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has when nothing is said.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

fn number(name: &str) -> Option<u8> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    NAMES.iter().position(|n| *n == name).map(|n| n as u8)
}

/// The capabilities of a container, from what is added and dropped; `ALL` stands for all.
pub(crate) fn of(add: &[String], drop: &[String]) -> Result<Vec<u8>, String> {
    let is_all = |list: &[String]| list.iter().any(|n| n.eq_ignore_ascii_case("ALL"));
    let mut have: Vec<u8> = if is_all(drop) { Vec::new() } else { DEFAULT.iter().filter_map(|n| number(n)).collect() };
    if is_all(add) {
        have = (0..NAMES.len() as u8).collect();
    }
    let known = |name: &String| number(name).ok_or_else(|| format!("unknown capability {name:?}"));
    for name in drop.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
        let gone = known(name)?;
        have.retain(|c| *c != gone);
    }
    for name in add.iter().filter(|n| !n.eq_ignore_ascii_case("ALL")) {
        let new = known(name)?;
        if !have.contains(&new) {
            have.push(new);
        }
    }
    have.sort_unstable();
    Ok(have)
}

/// All of them.
pub(crate) fn all() -> Vec<u8> {
    (0..NAMES.len() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_dropping() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(&[], &[]).unwrap().len(), 14);
        assert_eq!(of(&list(&["NET_ADMIN"]), &list(&["ALL"])).unwrap(), [12]);
        assert_eq!(of(&list(&["ALL"]), &list(&["CAP_KILL"])).unwrap().len(), 40);
        assert!(of(&list(&["FLY"]), &[]).is_err());
    }
}
