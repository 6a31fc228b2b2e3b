//! A profile as its file says it: JSON in the form of the OCI runtime specification (`linux.seccomp`).

use serde::Deserialize;
use std::path::Path;

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// It cannot be read.
    #[error("cannot load seccomp profile {path:?}: {source}")]
    Read {
        /// Where it is.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no profile.
    #[error("cannot load seccomp profile {path:?}: decoding seccomp profile failed: {source}")]
    Form {
        /// Where it is.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It wants what only an agent beside the container could do.
    #[error("seccomp action {0} needs an agent that listens, which there is none of")]
    Notify(&'static str),
    /// It is more than the kernel takes.
    #[error("the seccomp profile makes {0} instructions, more than the kernel takes")]
    TooLong(usize),
}

/// What happens at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Action {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    #[serde(rename = "SCMP_CMP_LE")]
    AtMost,
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    #[serde(rename = "SCMP_CMP_GE")]
    AtLeast,
    #[serde(rename = "SCMP_CMP_GT")]
    More,
    /// The argument's bits in `value` are `value_two`.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    Masked,
}

/// A condition on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Argument {
    pub(super) index: u8,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: Operator,
}

/// Calls that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) errno_ret: Option<u16>,
    #[serde(default)]
    pub(super) args: Vec<Argument>,
}

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    pub(super) default_action: Action,
    pub(super) default_errno_ret: Option<u16>,
    #[serde(default)]
    pub(super) syscalls: Vec<Rule>,
}

impl Profile {
    /// Reads a profile.
    pub(crate) fn load(path: &Path) -> Result<Self, ProfileError> {
        let shown = || path.display().to_string();
        let text = std::fs::read(path).map_err(|source| ProfileError::Read { path: shown(), source })?;
        serde_json::from_slice(&text).map_err(|source| ProfileError::Form { path: shown(), source })
    }
}
