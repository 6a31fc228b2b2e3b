//! Numbers that may be given as a percentage of another.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The value of a number or of a percentage of `total`, rounded up or down; `None` for a text that is neither.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(i64::from(total))?;
            let rounded = if round_up { product.checked_add(99)? } else { product };
            i32::try_from(rounded.div_euclid(100)).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_as_asked() {
        for (text, total, up, expected) in [
            ("25%", 10, true, Some(3)),
            ("25%", 10, false, Some(2)),
            ("100%", 7, false, Some(7)),
            ("0%", 7, true, Some(0)),
            ("x", 7, true, None),
            ("5", 7, true, None),
        ] {
            assert_eq!(scaled(&IntOrString::String(text.into()), total, up), expected, "{text} of {total}");
        }
        assert_eq!(scaled(&IntOrString::Int(3), 7, true), Some(3));
    }
}
