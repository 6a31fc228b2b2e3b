//! Sets of completion indexes in the text form of the API: `0,3-5,7`.

use std::collections::BTreeSet;

/// Reads a set; what is not below `completions`, or is no number, is left out.
pub(crate) fn parse(text: &str, completions: u32) -> BTreeSet<u32> {
    let mut set = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            set.extend(first..last.saturating_add(1).min(completions));
        }
    }
    set.retain(|index| *index < completions);
    set
}

/// Writes a set. Runs of three or more are written as ranges.
pub(crate) fn format(set: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for index in set {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*index) => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let parts: Vec<String> = runs
        .into_iter()
        .map(|(first, last)| match last - first {
            0 => first.to_string(),
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        })
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written() {
        for (text, completions, written) in [
            ("", 5, ""),
            ("0,2-4", 9, "0,2-4"),
            ("1,2", 9, "1,2"),
            ("3-4294967295", 6, "3-5"),
            ("x,2,9", 5, "2"),
            ("4,0,1,2", 5, "0-2,4"),
        ] {
            assert_eq!(format(&parse(text, completions)), written, "{text}");
        }
    }
}
