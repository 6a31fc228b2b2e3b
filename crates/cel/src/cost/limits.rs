//! What expressions may cost in Kubernetes (`apiserver/pkg/apis/cel`, `apiextensions/validation`).

/// One evaluation.
pub const PER_CALL: u64 = 1_000_000;
/// All rules of a custom resource, or all expressions of a policy and a binding.
pub const PER_OBJECT: u64 = 10_000_000;
/// All match conditions of a webhook or of a policy and a binding.
pub const MATCH_CONDITIONS: u64 = PER_OBJECT / 4;
/// The estimate of one rule in a CRD, with what repeats it.
pub const ESTIMATED_RULE: u64 = 10_000_000;
/// The estimate of all rules of a CRD's schema.
pub const ESTIMATED_SCHEMA: u64 = 100_000_000;
/// The largest request, in bytes: what has no limit of its own is as large.
pub const LARGEST_REQUEST: u64 = 3 * 1024 * 1024;
/// The longest text that a message expression may give, in bytes.
pub const LONGEST_MESSAGE: usize = 5 * 1024;

/// How often what takes so many bytes at the least can be in an object.
pub const fn max_cardinality(min_serialized_size: u64) -> u64 {
    LARGEST_REQUEST / (min_serialized_size + 1)
}
