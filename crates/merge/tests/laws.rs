//! What holds whatever is applied to whatever is there.

#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

use proptest::prelude::*;
use std::borrow::Cow;
use trireme_merge::{Builtin, Manager, Managers, Operation, Place, Repeated, Set, Versions, apply, update, validate};
use trireme_schema::{Map, Value, builtin};

/// Pods in their one version.
struct Pods(Set);

impl Versions for Pods {
    type Type = Builtin;

    fn place(&self, version: &str) -> Option<Place<Builtin>> {
        (version == "v1").then(|| Builtin::of(builtin().type_named("core.v1.Pod").unwrap()))
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        (from == to).then_some(Cow::Borrowed(object))
    }

    fn ignored(&self, _version: &str) -> &Set {
        &self.0
    }

    fn unowned(&self) -> &Set {
        &self.0
    }
}

/// Objects that are somewhat like pods.
fn podlike() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (0..4_i64).prop_map(Value::Int),
        "[ab]{0,2}".prop_map(Value::String),
    ];
    let names = prop::sample::select(vec![
        "metadata",
        "spec",
        "labels",
        "finalizers",
        "ownerReferences",
        "uid",
        "containers",
        "name",
        "image",
        "ports",
        "containerPort",
        "protocol",
        "env",
        "value",
        "tolerations",
        "nodeSelector",
        "volumes",
        "status",
        "a",
    ]);
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((names.clone(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map>())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_panics_and_what_was_applied_stays_applied(live in podlike(), first in podlike(), second in podlike()) {
        let pods = Pods(Set::default());
        let place = pods.place("v1").unwrap();
        // Every object says what it is.
        let named = |value: Value| {
            let mut value = if value.as_object().is_some() { value } else { Value::object() };
            value.set_at(&["kind"], "Pod");
            value
        };
        let live = named(live);
        let mut managers = Managers::default();
        let writer = Manager::new("writer", Operation::Update, "v1", "");
        update(&pods, (&Value::object(), &live), "v1", &mut managers, writer, "2026-01-01T00:00:00Z");
        let mut state = live;
        for config in [named(first), named(second)] {
            let applier = || Manager::new("applier", Operation::Apply, "v1", "");
            let mut after = managers.clone();
            let now = "2026-01-01T00:00:01Z";
            let Ok(new) = apply(&pods, (&state, &config), "v1", &mut after, applier(), true, now) else { continue };
            prop_assert_eq!(validate(place, &config, Repeated::Refused), Ok(()));
            state = new.unwrap_or(state);
            managers = after;
            // Once more changes nothing, neither the object nor who owns it, and meets no conflict.
            let mut again = managers.clone();
            let repeated = apply(&pods, (&state, &config), "v1", &mut again, applier(), false, "2026-01-01T00:00:02Z");
            prop_assert_eq!(repeated, Ok(None));
            prop_assert_eq!(&again, &managers);
            // What managers are written as reads back.
            prop_assert_eq!(Managers::read(&managers.write()).unwrap().write(), managers.write());
        }
    }
}
