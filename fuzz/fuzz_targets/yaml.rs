//! YAML: no text panics, and what is written is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trireme_schema::yaml;

fuzz_target!(|text: &str| {
    let Ok(documents) = yaml::parse_all(text) else { return };
    for value in documents {
        let mut written = String::new();
        yaml::write(&value, &mut written);
        let mut again = String::new();
        // As in Go, a float without a fraction is written as an integer: text is compared, not trees.
        yaml::write(&yaml::parse(&written).expect("what was written"), &mut again);
        assert_eq!(again, written);
    }
});
