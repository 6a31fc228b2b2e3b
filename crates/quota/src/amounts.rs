//! Amounts by name.

use std::collections::BTreeMap;
use trireme_schema::quantity::Format;
use trireme_schema::{Quantity, Value};

/// Amounts by the name of the resource, as a quota names it.
pub type Amounts = BTreeMap<String, Quantity>;

/// So many of something.
pub(crate) fn number(count: usize) -> Quantity {
    Quantity::units(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// Adds an amount.
pub fn add(amounts: &mut Amounts, name: &str, more: Quantity) {
    let entry = amounts.entry(name.to_owned()).or_insert(Quantity::ZERO);
    *entry = entry.plus(more);
}

/// Adds all amounts of another.
pub fn sum(into: &mut Amounts, more: &Amounts) {
    more.iter().for_each(|(name, amount)| add(into, name, *amount));
}

/// Takes the amounts of another off.
pub fn subtract(from: &mut Amounts, less: &Amounts) {
    for (name, amount) in less {
        let entry = from.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.minus(*amount);
    }
}

/// Raises each amount to that of another at least.
pub(crate) fn raise(into: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let entry = into.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = (*entry).max(*amount);
    }
}

/// Reads a map of quantities; what is none is left out.
pub fn read(value: Option<&Value>) -> Amounts {
    let map = value.and_then(Value::as_object);
    let pairs = map.into_iter().flat_map(|m| m.iter());
    pairs.filter_map(|(name, text)| Some((name.to_string(), text.as_str()?.parse().ok()?))).collect()
}

/// `a=1,b=2`.
pub fn pretty(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}
