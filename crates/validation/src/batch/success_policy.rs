//! When an indexed job has succeeded before all its pods have.

use super::indexes;
use crate::{Errors, Place};

const MOST_RULES: usize = 20;
const LONGEST_INDEXES: usize = 64 << 10;

pub(super) fn check(spec: &Place<'_>, policy: &Place<'_>, errors: &mut Errors) {
    let rules = policy.child("rules");
    match policy.list("rules").len() {
        0 => errors.required(&rules, "at least one rules must be specified when the successPolicy is specified"),
        n if n > MOST_RULES => errors.too_many(&rules, n, MOST_RULES),
        _ => {}
    }
    let completions = spec.int("completions").unwrap_or(i64::MAX);
    for rule in policy.items("rules") {
        let (indexes, count) = (rule.field("succeededIndexes"), rule.field("succeededCount"));
        if indexes.is_none() && count.is_none() {
            errors.required(&rule, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut listed = 0;
        if let Some(indexes) = &indexes {
            if indexes.str().len() > LONGEST_INDEXES {
                errors.too_long(indexes, LONGEST_INDEXES);
            }
            match indexes::count(indexes.str(), completions) {
                Ok(count) => listed = count,
                Err(why) => errors.invalid(indexes, format!("error parsing succeededIndexes: {why}")),
            }
        }
        if let Some(count) = &count {
            let number = count.value.as_int().unwrap_or_default();
            if number < 0 {
                errors.invalid(count, "must be greater than or equal to 0");
            }
            if number > completions {
                let why = format!("must be less than or equal to {completions} (the number of specified completions)");
                errors.invalid(count, why);
            }
            if indexes.is_some() && number > listed {
                let why = format!(
                    "must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
                );
                errors.invalid(count, why);
            }
        }
    }
}
