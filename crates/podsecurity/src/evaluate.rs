//! Which checks hold at which level and version, and what they find.

use crate::checks::{host, privileges, profiles, users, volumes};
use crate::{Level, Pod, Standard, Version};

/// The version of the standards that is this server's latest.
const LATEST: u32 = 36;

/// What a pod does that is forbidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What, in few words.
    pub reason: &'static str,
    /// Where and how.
    pub detail: String,
}

/// A check of a pod by the standards of a version.
type Run = fn(&Pod<'_>, u32) -> Option<Violation>;

/// A check with the versions (first, and first that no longer) for which it holds at each level.
struct Check {
    baseline: Option<u32>,
    restricted: Option<(u32, u32)>,
    run: Run,
}

const EVER: u32 = u32::MAX;

/// A check of the baseline, which holds for the restricted level too.
const fn baseline(since: u32, run: Run) -> Check {
    Check { baseline: Some(since), restricted: Some((since, EVER)), run }
}

/// A check of the baseline in whose place the restricted level has a stricter one from a version on.
const fn until(stricter: u32, run: Run) -> Check {
    Check { baseline: Some(0), restricted: Some((0, stricter)), run }
}

/// A check of the restricted level alone.
const fn restricted(since: u32, run: Run) -> Check {
    Check { baseline: None, restricted: Some((since, EVER)), run }
}

/// All checks, in the order in which they are told.
const CHECKS: [Check; 19] = [
    baseline(0, profiles::app_armor),
    until(22, privileges::capabilities_baseline),
    baseline(0, host::namespaces),
    until(0, volumes::host_path),
    baseline(0, host::ports),
    baseline(34, host::probes),
    baseline(0, privileges::privileged),
    until(35, privileges::proc_mount_baseline),
    baseline(0, profiles::se_linux),
    until(19, profiles::seccomp_baseline),
    baseline(0, profiles::sysctls),
    baseline(0, host::process),
    restricted(8, privileges::escalation),
    restricted(22, privileges::capabilities_restricted),
    restricted(35, privileges::proc_mount),
    restricted(0, volumes::restricted),
    restricted(0, users::non_root),
    restricted(23, users::not_zero),
    restricted(19, profiles::seccomp_restricted),
];

/// What a pod does that a standard forbids, in the order of the checks.
pub fn violations(standard: Standard, pod: Pod<'_>) -> Vec<Violation> {
    let minor = match standard.version {
        Version::Minor(minor) => minor.min(LATEST),
        Version::Latest => LATEST,
    };
    at(standard.level, minor, pod)
}

pub(crate) fn at(level: Level, minor: u32, pod: Pod<'_>) -> Vec<Violation> {
    let holds = |check: &&Check| match level {
        Level::Privileged => false,
        Level::Baseline => check.baseline.is_some_and(|since| minor >= since),
        Level::Restricted => check.restricted.is_some_and(|(since, end)| (since..end).contains(&minor)),
    };
    CHECKS.iter().filter(holds).filter_map(|check| (check.run)(&pod, minor)).collect()
}

/// The reasons in one line.
pub fn reasons(found: &[Violation]) -> String {
    found.iter().map(|v| v.reason).collect::<Vec<_>>().join(", ")
}

/// The reasons with their details in one line.
pub fn details(found: &[Violation]) -> String {
    found.iter().map(|v| format!("{} ({})", v.reason, v.detail)).collect::<Vec<_>>().join(", ")
}
