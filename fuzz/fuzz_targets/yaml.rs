//! YAML: no text panics, and what is written is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trireme_schema::yaml;

fuzz_target!(|text: &str| {
    let Ok(documents) = yaml::parse_all(text) else { return };
    for value in documents {
        let mut written = String::new();
        yaml::write(&value, &mut written);
        assert_eq!(yaml::parse(&written).expect("what was written"), value, "{written}");
    }
});
