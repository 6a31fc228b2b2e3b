//! The small languages of the API: quantities, selectors, times, durations, names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trireme_schema::{FieldSelector, LabelSelector, Quantity, Value, json, names, time};

fuzz_target!(|text: &str| {
    if let Ok(quantity) = text.parse::<Quantity>() {
        let written = quantity.to_string();
        let again: Quantity = written.parse().expect("what was written");
        assert_eq!(again.to_string(), written);
        let _ = (quantity.value(), quantity.milli_value(), quantity.as_f64());
        let _ = quantity.plus(quantity).minus(quantity);
    }
    if let Ok(selector) = LabelSelector::parse(text) {
        let labels = json::parse(br#"{"a":"1","b":"x"}"#).expect("labels");
        let _ = (selector.matches(Some(&labels)), selector.matches(Some(&Value::Null)), selector.matches(None));
    }
    let _ = FieldSelector::parse(text);
    if let Ok(at) = time::parse(text) {
        let seconds = time::seconds(at);
        assert_eq!(time::seconds(time::parse(&seconds).expect("what was written")), seconds);
        let _ = time::micros(at);
    }
    if let Some(nanos) = time::parse_duration(text) {
        assert_eq!(time::parse_duration(&time::duration(nanos)), Some(nanos));
    }
    for rule in [names::dns1123_subdomain, names::dns1123_label, names::qualified_name, names::label_value] {
        let _ = rule(text);
    }
});
