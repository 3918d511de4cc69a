//! What the fuzzers found interesting stays a test: each file of `fuzz/corpus` through the properties of its target.

#[path = "../fuzz/properties.rs"]
#[expect(unreachable_pub, reason = "to the targets it is a crate")]
mod properties;

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpora_has_the_properties_of_its_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut broken = Vec::new();
    for (target, property) in properties::ALL {
        let entries = fs::read_dir(corpora.join(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
        let inputs: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        assert!(inputs.len() >= 5, "{target} has {} inputs", inputs.len());
        broken.extend(inputs.into_iter().filter(|path| {
            let bytes = fs::read(path).expect("readable");
            std::panic::catch_unwind(|| property(&bytes)).is_err()
        }));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
