//! Sets of paths.

use crate::element::Element;
use trireme_schema::{Map, Value};

/// A set of paths. What is below a path is kept with it; a path may be in the set, have others below it, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set(Vec<(Element, Node)>);

/// What a set holds at and below one element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) member: bool,
    pub(crate) below: Set,
}

impl Node {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    /// No paths.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A set of paths of fields, such as `["metadata", "name"]`.
    pub fn of_fields<'a>(paths: impl IntoIterator<Item = &'a [&'a str]>) -> Self {
        let mut set = Self::default();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::field(*name)).collect();
            set.insert(&path);
        }
        set
    }

    /// From the JSON of `fieldsV1`. What is no path is left out.
    pub fn read(value: &Value) -> Self {
        let mut set = Self::default();
        for (key, inner) in value.as_object().into_iter().flat_map(Map::iter) {
            let Some(element) = Element::read(key) else { continue };
            let leaf = inner.as_object().is_none_or(Map::is_empty);
            set.put(element, Node { member: leaf || inner.get(".").is_some(), below: Self::read(inner) });
        }
        set
    }

    /// Its JSON, as in `fieldsV1`.
    pub fn write(&self) -> Value {
        let members = self.0.iter().map(|(element, node)| {
            let mut inner = match node.below.write() {
                Value::Object(map) => map,
                _ => Map::new(),
            };
            if node.member && !inner.is_empty() {
                inner.insert(".", Map::new());
            }
            (element.write(), inner)
        });
        Value::Object(members.collect())
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.0.iter().map(|(element, node)| (element, node))
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        match self.0.last() {
            // Most come in order.
            Some((last, _)) if last < element => Err(self.0.len()),
            _ => self.0.binary_search_by(|(have, _)| have.cmp(element)),
        }
    }

    pub(crate) fn node(&self, element: &Element) -> Option<&Node> {
        self.find(element).ok().map(|i| &self.0[i].1)
    }

    /// What the set holds below an element.
    pub fn below(&self, element: &Element) -> Option<&Set> {
        self.node(element).map(|node| &node.below)
    }

    /// Adds what is at and below an element.
    pub(crate) fn put(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.find(&element) {
            Err(i) => self.0.insert(i, (element, node)),
            Ok(i) => {
                let own = &mut self.0[i].1;
                own.member |= node.member;
                own.below.add(&node.below);
            }
        }
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let mut node = Node { member: rest.is_empty(), below: Self::default() };
        node.below.insert(rest);
        self.put(first.clone(), node);
    }

    /// Whether a path is in the set.
    pub fn has(&self, path: &[Element]) -> bool {
        match path.split_first() {
            None => false,
            Some((first, [])) => self.node(first).is_some_and(|node| node.member),
            Some((first, rest)) => self.below(first).is_some_and(|below| below.has(rest)),
        }
    }

    /// Adds all paths of another set.
    pub fn add(&mut self, other: &Self) {
        for (element, node) in &other.0 {
            match self.find(element) {
                Err(i) => self.0.insert(i, (element.clone(), node.clone())),
                Ok(i) => {
                    let own = &mut self.0[i].1;
                    own.member |= node.member;
                    own.below.add(&node.below);
                }
            }
        }
    }

    /// The paths of both sets.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.add(other);
        self
    }

    /// The paths that are in both sets.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let both = self.0.iter().filter_map(|(element, node)| {
            let theirs = other.node(element)?;
            let node = Node { member: node.member && theirs.member, below: node.below.common(&theirs.below) };
            (!node.is_empty()).then(|| (element.clone(), node))
        });
        Self(both.collect())
    }

    /// The paths that another set does not have.
    #[must_use]
    pub fn minus(mut self, other: &Self) -> Self {
        self.subtract(other);
        self
    }

    /// Takes out the paths of another set.
    pub fn subtract(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.0.retain_mut(|(element, node)| {
            if let Some(theirs) = other.node(element) {
                node.member &= !theirs.member;
                node.below.subtract(&theirs.below);
            }
            !node.is_empty()
        });
    }

    /// Takes out the paths of another set and whatever is below them.
    pub fn cut(&mut self, other: &Self) {
        self.0.retain_mut(|(element, node)| {
            if let Some(theirs) = other.node(element) {
                if theirs.member {
                    return false;
                }
                node.below.cut(&theirs.below);
            }
            !node.is_empty()
        });
    }

    /// Each path, those that end first before those that go on.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, way: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for (element, _) in self.0.iter().filter(|(_, node)| node.member) {
            out.push(way.iter().chain([element]).cloned().collect());
        }
        for (element, node) in &self.0 {
            way.push(element.clone());
            node.below.collect(way, out);
            way.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn set(text: &str) -> Set {
        Set::read(&json::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_json_form_survives_a_round_trip() {
        let text = r#"{"f:metadata":{"f:finalizers":{".":{},"v:\"a\"":{}}},"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}"#;
        assert_eq!(json::to_string(&set(text).write()), text);
        assert!(set("{}").is_empty());
        assert!(set(r#"{"x":{},"k:":{}}"#).is_empty());
    }

    #[test]
    fn sets_are_added_subtracted_and_compared_path_by_path() {
        let a = set(r#"{"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{}}"#);
        let b = set(r#"{"f:a":{"f:b":{}},"f:e":{}}"#);
        assert_eq!(a.clone().minus(&b), set(r#"{"f:a":{".":{},"f:c":{}},"f:d":{}}"#));
        assert_eq!(a.common(&b), set(r#"{"f:a":{"f:b":{}}}"#));
        assert_eq!(a.clone().union(&b), set(r#"{"f:a":{".":{},"f:b":{},"f:c":{}},"f:d":{},"f:e":{}}"#));
        let mut cut = a.clone();
        cut.cut(&set(r#"{"f:a":{}}"#));
        assert_eq!(cut, set(r#"{"f:d":{}}"#));
        assert_eq!(a.clone().minus(&set(r#"{"f:a":{}}"#)), set(r#"{"f:a":{"f:b":{},"f:c":{}},"f:d":{}}"#));
    }

    #[test]
    fn paths_that_end_come_before_those_that_go_on() {
        let paths = set(r#"{"f:a":{"f:b":{}},"f:c":{}}"#).paths();
        let shown: Vec<String> =
            paths.iter().map(|path| path.iter().map(ToString::to_string).collect::<String>()).collect();
        assert_eq!(shown, [".c", ".a.b"]);
    }
}
