//! Resource quantities: `500m`, `1.5Gi`, `1e3`.
//!
//! A quantity is a decimal number with a suffix (apimachinery `resource.Quantity`). It is kept exactly, as an integer
//! and a power of ten, and is written back in its canonical form: no fraction, the largest suffix that fits.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Powers of 1000: `m`, `k`, `M`.
    DecimalSi,
    /// Powers of 1024: `Ki`, `Mi`.
    BinarySi,
    /// `1e3`.
    DecimalExponent,
}

/// An exact amount of something.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// In billionths (the smallest unit that Kubernetes keeps).
    nanos: i128,
    format: Format,
}

/// The text is no quantity.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadQuantity {
    /// Not of the form number and suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// The number is fine, the suffix is not.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Nothing is kept above 2^63-1 units.
const LARGEST: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// So many whole units.
    pub fn units(n: i64, format: Format) -> Self {
        Self { nanos: i128::from(n) * NANO, format }
    }

    /// So many thousandths.
    pub fn millis(n: i64) -> Self {
        Self { nanos: i128::from(n) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Whole units, rounded up (away from zero), clamped to what fits.
    pub fn value(&self) -> i64 {
        clamp(round_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up (away from zero), clamped to what fits.
    pub fn milli_value(&self) -> i64 {
        clamp(round_up(self.nanos, NANO / 1000))
    }

    /// The amount as a float; large and small ones lose precision.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// How it was written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Below zero.
    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Exactly zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    /// The sum, in the form of the first that is not zero.
    pub fn plus(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-LARGEST, LARGEST), format }
    }

    /// The difference, in the form of the first that is not zero.
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, format: other.format })
    }
}

fn clamp(n: i128) -> i64 {
    n.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// Divides, rounding away from zero.
fn round_up(n: i128, by: i128) -> i128 {
    let quotient = n / by;
    match n % by {
        0 => quotient,
        rest if rest > 0 => quotient + 1,
        _ => quotient - 1,
    }
}

enum Suffix {
    Decimal(i32),
    Binary(u32),
    Exponent(i32),
}

fn suffix(text: &str) -> Result<Suffix, BadQuantity> {
    Ok(match text {
        "n" => Suffix::Decimal(-9),
        "u" => Suffix::Decimal(-6),
        "m" => Suffix::Decimal(-3),
        "" => Suffix::Decimal(0),
        "k" => Suffix::Decimal(3),
        "M" => Suffix::Decimal(6),
        "G" => Suffix::Decimal(9),
        "T" => Suffix::Decimal(12),
        "P" => Suffix::Decimal(15),
        "E" => Suffix::Decimal(18),
        "Ki" => Suffix::Binary(10),
        "Mi" => Suffix::Binary(20),
        "Gi" => Suffix::Binary(30),
        "Ti" => Suffix::Binary(40),
        "Pi" => Suffix::Binary(50),
        "Ei" => Suffix::Binary(60),
        _ => {
            let digits = text.strip_prefix(['e', 'E']).ok_or(BadQuantity::Suffix)?;
            Suffix::Exponent(digits.parse().map_err(|_| BadQuantity::Suffix)?)
        }
    })
}

impl FromStr for Quantity {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let negative = text.starts_with('-');
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, tail) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(BadQuantity::Form);
        }
        if !tail.chars().all(|c| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit()) {
            return Err(BadQuantity::Form);
        }
        let suffix = suffix(tail)?;
        let digits: String = whole.chars().chain(fraction.chars()).collect();
        let digits = digits.trim_start_matches('0');
        let scale = match suffix {
            Suffix::Decimal(p) | Suffix::Exponent(p) => p,
            Suffix::Binary(_) => 0,
        };
        // The number is digits * 10^power; in billionths, digits * 10^(power + 9).
        let power = i64::from(scale) - fraction.len() as i64 + 9;
        let binary = if let Suffix::Binary(bits) = suffix { 1_i128 << bits } else { 1 };
        let mut nanos = scaled(digits, power, binary);
        if nanos > LARGEST {
            nanos = LARGEST;
        }
        // Upstream falls back to decimal form for binary amounts below one Ki's worth of units.
        let format = match suffix {
            Suffix::Binary(_) => Format::BinarySi,
            Suffix::Exponent(_) => Format::DecimalExponent,
            Suffix::Decimal(_) => Format::DecimalSi,
        };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

/// `digits * binary * 10^power`, rounded up to a whole number, saturating.
fn scaled(digits: &str, power: i64, binary: i128) -> i128 {
    if digits.is_empty() {
        return 0;
    }
    if digits.len() as i64 + power > 60 {
        return i128::MAX;
    }
    if digits.len() as i64 + power < -30 {
        return 1;
    }
    // At most 26 digits matter: LARGEST has 28, and anything longer only rounds up.
    let kept = digits.len().min(26);
    let mut number: i128 = digits[..kept].parse().unwrap_or(i128::MAX);
    let lost = digits[kept..].chars().any(|c| c != '0');
    let mut power = power + (digits.len() - kept) as i64;
    let Some(product) = number.checked_mul(binary) else { return scaled_float(digits, power, binary) };
    number = product;
    while power > 0 {
        number = match number.checked_mul(10) {
            Some(n) => n,
            None => return i128::MAX,
        };
        power -= 1;
    }
    let mut rest = lost;
    while power < 0 && number > 0 {
        rest |= number % 10 != 0;
        number /= 10;
        power += 1;
    }
    number + i128::from(rest)
}

/// Numbers too long for exact arithmetic are far beyond what is kept or far below what matters.
fn scaled_float(digits: &str, power: i64, binary: i128) -> i128 {
    let number: f64 = digits.parse().unwrap_or(f64::MAX);
    (number * binary as f64 * 10_f64.powi(power as i32)).min(i128::MAX as f64) as i128
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // A binary amount with a fraction, or below 1Ki, is written in decimal form.
        let binary = self.format == Format::BinarySi && self.nanos.abs() >= 1024 * NANO;
        if binary && self.nanos % NANO == 0 {
            let mut units = self.nanos / NANO;
            let mut step = 0;
            while step < 6 && units % 1024 == 0 {
                units /= 1024;
                step += 1;
            }
            return write!(f, "{units}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let mut amount = self.nanos;
        let mut power = -9_i32;
        while power < 18 && amount % 1000 == 0 {
            amount /= 1000;
            power += 3;
        }
        let exponent = self.format == Format::DecimalExponent;
        match power {
            0 => write!(f, "{amount}"),
            _ if exponent => write!(f, "{amount}e{power}"),
            _ => {
                let step = usize::try_from((power + 9) / 3).unwrap_or_default();
                write!(f, "{amount}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][step])
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("0.1m", "100u"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("12345678", "12345678"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("123Mi", "123Mi"),
            ("-1.5", "-1500m"),
            ("1n", "1n"),
            ("0.5n", "1n"),
            (".5", "500m"),
            ("5.", "5"),
            ("500Mi", "500Mi"),
            ("0.5Ki", "512"),
        ] {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn bad_ones_are_refused() {
        for text in ["", "x", "1.2.3", "1 Gi", "1Q", "1mi", "--1", ".", "1i", "1e", "Gi"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn whole_and_milli_values_round_up() {
        let q: Quantity = "1500m".parse().unwrap();
        assert_eq!((q.value(), q.milli_value()), (2, 1500));
        assert_eq!("1u".parse::<Quantity>().unwrap().milli_value(), 1);
        assert_eq!("10E".parse::<Quantity>().unwrap().value(), i64::MAX);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn writing_keeps_the_amount(n in proptest::num::i64::ANY, s in 0_usize..16) {
            let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e3", "e-3", "E2", "e0"][s];
            let q: Quantity = format!("{n}{suffix}").parse().unwrap();
            proptest::prop_assert_eq!(q.to_string().parse::<Quantity>().unwrap(), q);
        }
    }
}
