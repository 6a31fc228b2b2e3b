//! What objects take of a namespace's quotas, and which quotas count them.
//!
//! [`usage()`] gives an object's [`Amounts`]; [`counts`] tells whether a quota's scopes include it; [`unnamed`] names the
//! resources that its containers should have spoken of. Admission adds what is new, the controller counts all anew.

mod amounts;
mod pod;
mod scope;
mod usage;

pub use amounts::{Amounts, add, pretty, read, subtract, sum};
pub use pod::{Side, of_container, totals};
pub use scope::{counts, matching, scopes_of};
pub use usage::{is_countable, unnamed, usage};
