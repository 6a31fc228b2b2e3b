//! `kinds.txt`: objects and what is wrong with them; and how long it takes to say so.

use std::collections::BTreeSet;
use std::time::Instant;
use trireme_schema::{GroupVersion, Value, builtin, json};
use trireme_validation::{Subject, validate};

fn wrong(object: &Value, old: Option<&Value>) -> BTreeSet<String> {
    let kind = object.str_at(&["kind"]);
    let gv = GroupVersion::parse(object.str_at(&["apiVersion"]));
    let subject = Subject {
        group: &gv.group,
        version: &gv.version,
        kind,
        id: builtin().kind(&gv, kind).expect("a built-in kind"),
        namespaced: true,
        subresource: "",
        new: object,
        old,
    };
    validate(&subject).iter().map(ToString::to_string).collect()
}

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).expect("JSON")
}

#[test]
fn objects_are_told_what_is_wrong_with_them() {
    let mut lines = include_str!("kinds.txt").lines().filter(|l| !l.starts_with('#') && !l.is_empty()).peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let old = line.strip_prefix("was ").map(parse);
        let object = if old.is_some() { lines.next().expect("what it became") } else { line };
        let mut expected = BTreeSet::new();
        while let Some(error) = lines.next_if(|l| l.starts_with("  ")) {
            expected.insert(error.trim().to_owned());
        }
        assert_eq!(wrong(&parse(object), old.as_ref()), expected, "{object}");
        count += 1;
    }
    assert!(count > 4);
}

#[test]
fn a_pod_takes_microseconds() {
    const ROUNDS: u32 = 2000;
    let pod = parse(include_str!("kinds.txt").lines().find(|l| l.starts_with('{')).expect("a pod"));
    assert!(wrong(&pod, None).is_empty());
    let start = Instant::now();
    for _ in 0..ROUNDS {
        assert!(wrong(&pod, None).is_empty());
    }
    let each = start.elapsed() / ROUNDS;
    println!("{each:?} a pod");
    // Far more than it takes, also without optimisation and beside other tests.
    assert!(each.as_millis() < 5, "{each:?}");
}
