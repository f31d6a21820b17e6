//! Keeps the list of planted faults (`tests/kill/faults.toml`, tried out by `tests/kill/prove`) true to the source.

use std::fs;
use std::path::Path;

#[test]
fn every_fault_still_applies_to_exactly_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = fs::read_to_string(root.join("tests/kill/faults.toml")).expect("the list");
    let tables: Vec<&str> = list.split("[[fault]]").skip(1).collect();
    assert!(!tables.is_empty());
    for table in tables {
        let (name, file, find) = (value(table, "name"), value(table, "file"), value(table, "find"));
        let source = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
        assert_eq!(
            source.matches(find).count(),
            1,
            "{name}: places in {file} that have {find:?}"
        );
        assert_ne!(find, value(table, "replace"), "{name} changes nothing");
    }
}

/// The literal string of a key, of one line or of several, whose first line break is no part of it.
fn value<'a>(table: &'a str, key: &str) -> &'a str {
    let begin = format!("\n{key} = '");
    let (_, rest) = table
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{key} is missing: {table}"));
    let (text, end) = match rest.strip_prefix("''\n") {
        Some(text) => (text, "'''"),
        None => (rest, "'"),
    };
    text.split_once(end).expect("the end of the string").0
}
