//! The checks, by what they look at. Each takes a pod and the minor version of the standards, and tells what is forbidden.

pub(crate) mod host;
pub(crate) mod privileges;
pub(crate) mod profiles;
pub(crate) mod users;
pub(crate) mod volumes;
