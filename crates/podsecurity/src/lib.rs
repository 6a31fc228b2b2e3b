//! The Pod Security Standards (KEP-2579): what pods may be at each level, by version.
//!
//! A namespace's labels give its [`Policy`]; [`violations`] tells what a pod does that a level forbids, in upstream's words.
//!
//! ```
//! use trireme_podsecurity::{Level, Pod, Standard, Version, violations};
//! let pod = trireme_schema::json::parse(br#"{"metadata":{"name":"a"},"spec":{"hostPID":true,"containers":[]}}"#).unwrap();
//! let found = violations(Standard { level: Level::Baseline, version: Version::Latest }, Pod::of(&pod));
//! assert_eq!(trireme_podsecurity::details(&found), "host namespaces (hostPID=true)");
//! ```

mod checks;
mod evaluate;
mod pod;
mod policy;

pub use evaluate::{Violation, details, reasons, violations};
pub use pod::Pod;
pub use policy::{Level, Mode, Policy, Standard, Version};
