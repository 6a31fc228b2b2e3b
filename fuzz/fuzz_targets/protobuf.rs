//! Protobuf: no bytes panic, and what is decoded has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trireme_schema::{builtin, proto};

fuzz_target!(|input: (u16, &[u8])| {
    const TYPES: [&str; 8] = [
        "core.v1.Pod",
        "core.v1.Service",
        "apps.v1.Deployment",
        "meta.v1.Status",
        "apiextensions.v1.CustomResourceDefinition",
        "batch.v1.CronJob",
        "resource.v1.ResourceClaim",
        "autoscaling.v2.HorizontalPodAutoscaler",
    ];
    let (which, bytes) = input;
    if let Ok(envelope) = proto::Envelope::open(bytes) {
        let again = proto::Envelope::open(&envelope.seal()).expect("a sealed envelope");
        assert_eq!((again.kind, again.raw), (envelope.kind, envelope.raw));
    }
    let schema = builtin();
    let id = schema.type_named(TYPES[usize::from(which) % TYPES.len()]).expect("a type");
    let Ok(value) = proto::decode(schema, id, bytes) else { return };
    let mut first = Vec::new();
    proto::message(schema, id, &value, &mut first);
    let Ok(value) = proto::decode(schema, id, &first) else { panic!("cannot read what was written") };
    let mut second = Vec::new();
    proto::message(schema, id, &value, &mut second);
    assert_eq!(first, second);
});
