//! What calls cost: cel-go's rules (`interpreter/runtimecost.go`) and those of Kubernetes' libraries
//! (`apiserver/pkg/cel/library/cost.go`).

use super::{CHARACTER, LIST, PATTERN_CHARACTER, STRUCT, up};
use crate::library::Format;
use crate::value::Value;

/// How a call's price is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Price {
    /// Always so much.
    Fixed(u64),
    /// So much for each character of the first argument.
    First(f64),
    /// One for each element of the second argument.
    Elements,
    /// For what the two have in common in length.
    Shorter,
    /// As [`Price::Shorter`], but one for what only its functions look into.
    Equality,
    /// For both together.
    Both,
    /// For the text times the pattern.
    Pattern,
    /// For the text times what is looked for.
    Contains,
    /// For everything in the first argument.
    Traversal,
    /// For the text that it makes.
    Result,
    /// For reading a selector.
    Selector,
    /// Comparing an address range with an address or a range, that may have to be read.
    Within { range: bool, text: bool },
    /// For the text times the longest pattern of the format.
    Validate,
    /// The product of the sizes, so many times.
    Product(u64),
    /// What list functions make.
    ResultElements,
    /// Every element of the first argument, as deep as the second says.
    Depth,
    /// Every element of an argument with every other, twice.
    Pairs(usize),
}

impl Price {
    /// The price of a function; the signature is empty if it is not known beforehand.
    pub(crate) fn of(function: &str, overload: &str) -> Self {
        Self::of_overload(overload).or_else(|| Self::of_kubernetes(function, overload)).unwrap_or(match overload {
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
            | "string_format" => Price::First(CHARACTER),
            "in_list" => Price::Elements,
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals" => Price::Shorter,
            "add_string" | "add_bytes" => Price::Both,
            "matches_string" => Price::Pattern,
            "contains_string" => Price::Contains,
            _ => Price::Fixed(1),
        })
    }

    /// Libraries of cel-go that bring prices of their own.
    fn of_overload(overload: &str) -> Option<Self> {
        Some(match overload {
            "list_sets_contains_list" | "list_sets_intersects_list" => Price::Product(1),
            "list_sets_equivalent_list" => Price::Product(2),
            "list_slice" | "lists_range" | "list_reverse" => Price::ResultElements,
            "list_flatten" | "list_flatten_int" => Price::Depth,
            "list_distinct" => Price::Pairs(0),
            _ if overload.ends_with("_sortByAssociatedKeys") => Price::Pairs(1),
            _ if overload.starts_with("list_") && overload.ends_with("_sort") => Price::Pairs(0),
            _ => return None,
        })
    }

    fn of_kubernetes(function: &str, overload: &str) -> Option<Self> {
        Some(match function {
            "check" => Price::Fixed(350_000),
            "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
            | "reason" | "error" | "errored" => Price::Fixed(1),
            "fieldSelector" | "labelSelector" => Price::Selector,
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Price::Traversal,
            "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" => {
                Price::First(CHARACTER)
            }
            "replace" | "split" => Price::First(2.0 * CHARACTER),
            "join" => Price::Result,
            "find" | "findAll" => Price::Pattern,
            "ip" if overload == "cidr_ip" => Price::Fixed(1),
            "cidr" | "isIP" | "isCIDR" | "ip" => Price::First(CHARACTER),
            "ip.isCanonical" => Price::First(2.0 * CHARACTER),
            "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast" => Price::Fixed(1),
            "containsIP" => Price::Within { range: false, text: overload == "cidr_contains_ip_string" },
            "containsCIDR" => Price::Within { range: true, text: overload == "cidr_contains_cidr_string" },
            "quantity" | "isQuantity" | "semver" | "isSemver" => Price::First(CHARACTER),
            "validate" => Price::Validate,
            "format.named" => Price::Fixed(1),
            "sign" | "asInteger" | "isInteger" | "asApproximateFloat" | "isGreaterThan" | "isLessThan"
            | "compareTo" | "add" | "sub" | "major" | "minor" | "patch" => Price::Fixed(1),
            "getScheme" | "getHostname" | "getHost" | "getPort" | "getEscapedPath" | "getQuery" => Price::Fixed(1),
            "_==_" => Price::Equality,
            _ => return None,
        })
    }

    /// Whether the price is known before the call.
    pub(crate) fn is_known_before(&self) -> bool {
        !matches!(self, Price::Result | Price::ResultElements)
    }

    /// The price of a call with these arguments and this result, if it has one.
    pub(crate) fn cost(&self, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
        let size = |n: usize| args.get(n).map_or(1, Value::cost_size);
        let characters = |n: usize| size(n) as f64 * CHARACTER;
        match self {
            Price::Fixed(cost) => *cost,
            Price::First(factor) => up(size(0) as f64 * factor),
            Price::Elements => size(1),
            Price::Equality if matches!(args.first(), Some(Value::Opaque(_))) => 1,
            Price::Shorter | Price::Equality => up(size(0).min(size(1)) as f64 * CHARACTER),
            Price::Both => up((size(0) + size(1)) as f64 * CHARACTER),
            // One more than the text, since a pattern costs also where there is no text.
            Price::Pattern => {
                up((1.0 + size(0) as f64) * CHARACTER).saturating_mul(up(size(1) as f64 * PATTERN_CHARACTER))
            }
            Price::Contains => up(characters(0)).saturating_mul(up(characters(1))),
            Price::Traversal => args.first().map_or(0, traversal),
            Price::Result => up(result.map_or(1, Value::cost_size) as f64 * 2.0 * CHARACTER),
            Price::Selector => selector(size(1)),
            Price::Within { range, text } => {
                let mut cost = up((size(0) + size(0)) as f64 * CHARACTER);
                if *range {
                    cost += up(characters(0)) + 1;
                }
                if *text {
                    cost += up(characters(1));
                }
                cost
            }
            Price::Validate => match args.first().and_then(Value::as_opaque::<&'static Format>) {
                Some(format) => up((1.0 + size(1) as f64) * CHARACTER)
                    .saturating_mul(up(format.longest_pattern as f64 * PATTERN_CHARACTER)),
                None => 1,
            },
            Price::Product(times) => size(0).saturating_mul(size(1)).saturating_mul(*times).saturating_add(1),
            Price::ResultElements => result.map_or(1, Value::cost_size).saturating_add(LIST + 1),
            Price::Depth => {
                let depth = if let Some(Value::Int(depth)) = args.get(1) { *depth as f64 } else { 1.0 };
                ((size(0) as f64 * depth) as u64).saturating_add(LIST + 1)
            }
            Price::Pairs(n) => {
                let first = args.get(*n).and_then(|list| if let Value::List(list) = list { list.get(0) } else { None });
                let texts = matches!(first, Some(Ok(Value::String(_) | Value::Bytes(_))));
                let each = if texts { 2.0 + CHARACTER } else { 2.0 };
                ((size(*n).saturating_mul(size(*n)) as f64 * each) as u64).saturating_add(LIST + 1)
            }
        }
    }
}

/// Reading a selector of this length: at worst every second character begins a requirement, with a list and a struct.
fn selector(length: u64) -> u64 {
    LIST + up(length as f64 * CHARACTER) + up(up(length as f64 * 0.5) as f64 * (LIST + STRUCT) as f64)
}

/// Going over a value and everything in it.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * CHARACTER) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * CHARACTER) as u64,
        Value::List(list) => list.iter().map(|item| item.map_or(1, |item| traversal(&item))).sum(),
        Value::Map(map) => {
            let entry = |key: &Value<'_>| map.get(key).ok().flatten().map_or(1, |value| traversal(&value));
            map.keys().iter().map(|key| traversal(key) + entry(key)).sum()
        }
        _ => 1,
    }
}
