//! Versions in order of preference: `v10`, `v2`, `v11beta2`, `v3beta1`, `v12alpha1`, then all others by name.

use std::cmp::Ordering;

/// Stability (greater is better), major, minor.
fn read(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let number = |text: &str| {
        let good = !text.is_empty() && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        if good { text.parse::<u64>().ok() } else { None }
    };
    for (stability, name) in [(2, "beta"), (1, "alpha")] {
        if let Some((major, minor)) = rest.split_once(name) {
            return Some((stability, number(major)?, number(minor)?));
        }
    }
    Some((3, number(rest)?, 0))
}

/// Which of two versions clients are to prefer: the lesser comes first.
pub fn order(a: &str, b: &str) -> Ordering {
    match (read(a), read(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn stable_comes_before_beta_before_alpha_before_all_others() {
        let mut versions =
            ["foo10", "v1", "v11alpha2", "v12alpha1", "v10", "foo1", "v3beta1", "v2", "v11beta2", "v10beta3"];
        versions.sort_by(|a, b| super::order(a, b));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"]
        );
    }
}
