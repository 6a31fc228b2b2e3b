//! Durations as upstream's flags take them.

use std::time::Duration;

/// Reads `15s`, `1m30s`, `500ms`, `2h`, or plain seconds.
///
/// # Errors
/// What is not a duration.
pub fn parse(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration such as 15s, 1m30s or 500ms");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0).ok_or_else(refused)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let number: u32 = number.parse().map_err(|_| refused())?;
        let one = match unit {
            "h" => Duration::from_secs(3600),
            "m" => Duration::from_secs(60),
            "s" => Duration::from_secs(1),
            "ms" => Duration::from_millis(1),
            _ => return Err(refused()),
        };
        total = one.checked_mul(number).and_then(|part| total.checked_add(part)).ok_or_else(refused)?;
        rest = tail;
    }
    if text.is_empty() { Err(refused()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, millis) in [("15s", 15_000), ("1m30s", 90_000), ("500ms", 500), ("2h", 7_200_000), ("7", 7_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "1x", "-1s", "1s2", "99999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
