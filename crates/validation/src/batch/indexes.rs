//! Indexes of pods as text: `1,3-5,7`.

use trireme_schema::field::quote;

/// How many indexes a text lists; they come in order, and each is below `completions`.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let number = |part: &str, last: Option<i64>| -> Result<i64, String> {
        let index: i64 =
            part.parse().map_err(|_| format!("cannot convert string to integer for index: {}", quote(part)))?;
        match last {
            _ if index >= completions => Err(format!("too large index: {}", quote(part))),
            Some(last) if last >= index => Err(format!("non-increasing order, previous: {last}, current: {index}")),
            _ => Ok(index),
        }
    };
    let (mut total, mut last) = (0_i64, None);
    for fragment in text.split(',').filter(|_| !text.is_empty()) {
        let mut parts = fragment.split('-');
        let (from, to) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(format!(
                "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
                quote(fragment)
            ));
        }
        let first = number(from, last)?;
        last = Some(first);
        total += 1;
        if let Some(to) = to {
            let end = number(to, last)?;
            total = total.saturating_add(end.saturating_sub(first));
            last = Some(end);
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn counts_indexes() {
        assert_eq!(count("", 3), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        assert_eq!(count("5", 5), Err("too large index: \"5\"".to_owned()));
        assert_eq!(count("2,1", 5), Err("non-increasing order, previous: 2, current: 1".to_owned()));
        assert!(count("1-2-3", 5).is_err_and(|e| e.contains("at most two parts")));
        assert!(count("x", 5).is_err_and(|e| e.contains("cannot convert")));
    }
}
