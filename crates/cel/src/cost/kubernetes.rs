//! What Kubernetes' libraries can cost (`apiserver/pkg/cel/library/cost.go`). What a CRD may hold depends on these
//! numbers.

use super::calls::{Argument, Estimate, hint, matching};
use super::estimate::SizeHints;
use super::range::Range;
use super::{CHARACTER, LIST, PATTERN_CHARACTER, STRUCT};
use crate::types::Type;

/// The longest name of a format.
const LONGEST_FORMAT: u64 = 64;
/// The longest pattern of a format.
const LONGEST_FORMAT_PATTERN: f64 = 128.0;
/// The bytes of an address.
const ADDRESS: Range = Range { min: 4, max: 16 };

pub(super) fn estimate(
    function: &str,
    overload: &str,
    target: Option<&Argument<'_>>,
    args: &[Argument<'_>],
    hints: &dyn SizeHints,
) -> Option<Estimate> {
    let first = args.first().map(|arg| arg.size(hints));
    let first_characters = |factor: f64| first.map(|size| Estimate::cost(size.scaled(factor * CHARACTER)));
    let one = Some(Estimate::cost(Range::fixed(1)));
    match function {
        "check" => Some(Estimate::cost(Range::fixed(350_000))),
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
        | "reason" | "error" | "errored" => one,
        "fieldSelector" | "labelSelector" if args.len() == 1 => first.map(|size| Estimate::cost(selector(size))),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            target.map(|target| Estimate::cost(traversal(target, hints)))
        }
        "url" | "jsonpatch.escapeKey" if args.len() == 1 => {
            first.map(|size| Estimate::sized(size.scaled(CHARACTER), size))
        }
        "lowerAscii" | "upperAscii" | "substring" | "trim" => target.map(|target| {
            let size = target.size(hints);
            Estimate::sized(size.scaled(CHARACTER), size)
        }),
        "replace" => replace(target?.size(hints), first?, args.get(1)?.size(hints)),
        "split" => target.map(|target| split(target.size(hints), args)),
        "join" => target.map(|target| join(target, first, hints)),
        "find" | "findAll" => {
            let (text, pattern) = (target?.size(hints), first?);
            Some(Estimate::sized(matching(text, pattern), Range { min: 0, max: text.max }))
        }
        "ip" if overload == "cidr_ip" => one,
        "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => first_characters(1.0),
        "ip.isCanonical" => first_characters(2.0),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast" => one,
        "containsIP" => {
            let text = if overload == "cidr_contains_ip_string" { first?.scaled(CHARACTER) } else { Range::ZERO };
            first.map(|_| Estimate::cost(ADDRESS.plus(ADDRESS).scaled(CHARACTER).plus(text)))
        }
        "containsCIDR" => {
            let text = if overload == "cidr_contains_cidr_string" { first?.scaled(CHARACTER) } else { Range::ZERO };
            let masked = ADDRESS.scaled(CHARACTER).plus(Range::fixed(1));
            first.map(|_| Estimate::cost(ADDRESS.plus(ADDRESS).scaled(CHARACTER).plus(masked).plus(text)))
        }
        "validate" => {
            first.map(|size| Estimate::cost(size.scaled(CHARACTER).scaled(LONGEST_FORMAT_PATTERN * PATTERN_CHARACTER)))
        }
        "format.named" => one,
        "sign" | "asInteger" | "isInteger" | "asApproximateFloat" | "isGreaterThan" | "isLessThan" | "compareTo"
        | "add" | "sub" | "major" | "minor" | "patch" => one,
        "getScheme" | "getHostname" | "getHost" | "getPort" | "getEscapedPath" | "getQuery" => one,
        "_==_" => equality(args),
        _ => None,
    }
}

/// At worst every second character of a selector begins a requirement, with a list and a struct.
fn selector(size: Range) -> Range {
    let requirements = size.scaled(0.5).scaled((LIST + STRUCT) as f64);
    Range::fixed(LIST).plus(size.scaled(CHARACTER)).plus(requirements)
}

fn element(t: &Type) -> Option<&Type> {
    match t {
        Type::List(element) => Some(element),
        Type::Map(key, _) => Some(key),
        Type::Opaque(_, params) => params.first(),
        _ => None,
    }
}

fn element_size(list: &Argument<'_>, hints: &dyn SizeHints) -> Range {
    if list.path.is_empty() {
        return Range::UNKNOWN;
    }
    let mut path = list.path.clone();
    path.push("@items".to_owned());
    hint(hints, &path).unwrap_or(Range::UNKNOWN)
}

fn traversal(target: &Argument<'_>, hints: &dyn SizeHints) -> Range {
    let size = target.size(hints);
    let Some(element) = element(target.t) else { return size.scaled(CHARACTER) };
    let each = match element {
        Type::String | Type::Bytes => Range::fixed(1).plus(element_size(target, hints).scaled(CHARACTER)),
        _ => Range::fixed(1),
    };
    size.times(each)
}

fn split(size: Range, args: &[Argument<'_>]) -> Estimate {
    let limit = args.get(1).and_then(Argument::as_int).map(|n| n as u64);
    Estimate::sized(size.scaled(2.0 * CHARACTER), Range { min: 0, max: limit.unwrap_or(size.max) })
}

fn join(target: &Argument<'_>, separator: Option<Range>, hints: &dyn SizeHints) -> Estimate {
    let count = target.size(hints);
    let mut size = Range::ZERO;
    if element(target.t).is_some() {
        size = count.times(element_size(target, hints));
    }
    if let Some(separator) = separator {
        let between = Range { min: count.min.saturating_sub(1), max: count.max.saturating_sub(1) };
        size = size.plus(separator.times(between));
    }
    Estimate::sized(size.scaled(CHARACTER), size)
}

/// The longest and the shortest that a text can become when parts of it are replaced.
fn replace(text: Range, old: Range, new: Range) -> Option<Estimate> {
    let (mut count, mut kept) = (Range::ZERO, Range::ZERO);
    if old.min == 0 {
        // Nothing is replaced between all characters.
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if new.max <= old.min {
        kept.max = text.max;
    } else {
        count.max = (text.max as f64 / old.min as f64).ceil() as u64;
    }
    if old.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if old.max <= new.min {
        kept.min = text.min;
    } else {
        count.min = (text.min as f64 / old.max as f64).ceil() as u64;
    }
    Some(Estimate::sized(text.scaled(2.0 * CHARACTER), count.times(new).plus(kept)))
}

/// What only its functions look into is compared at once.
fn equality(args: &[Argument<'_>]) -> Option<Estimate> {
    let [left, right] = args else { return None };
    if left.t != right.t {
        return None;
    }
    match left.t.name() {
        "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => {}
        "kubernetes.authorization.Authorizer"
        | "kubernetes.authorization.PathCheck"
        | "kubernetes.authorization.GroupCheck"
        | "kubernetes.authorization.ResourceCheck"
        | "kubernetes.authorization.Decision" => {}
        "kubernetes.NamedFormat" => {
            return Some(Estimate::cost(Range { min: 1, max: LONGEST_FORMAT }.scaled(CHARACTER)));
        }
        "kubernetes.URL" => {
            let max = right.size.map_or(1, |size| size.max);
            return Some(Estimate::cost(Range { min: 1, max }.scaled(CHARACTER)));
        }
        _ => return None,
    }
    Some(Estimate::cost(Range::fixed(1)))
}
