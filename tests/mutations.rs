//! Keeps the list of mutations (`tests/mutations.toml`, tried out by `tests/mutations`) true to the source.
//!
//! Trying the mutations takes too long for every test run; a list that no longer applies is found here at once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

type Mutation = HashMap<String, String>;

#[test]
fn every_mutation_still_applies_to_exactly_one_place() {
    let faults: Vec<String> = mutations()
        .iter()
        .filter_map(|mutation| {
            let source = read(&mutation["file"]);
            let count = source.matches(&mutation["find"]).count();
            (count != 1).then(|| format!("{}: found {count} times in {}", mutation["name"], mutation["file"]))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_mutation_changes_something_and_has_a_name_of_its_own() {
    let mut names = HashSet::new();
    for mutation in mutations() {
        assert_ne!(
            mutation["find"], mutation["replace"],
            "{} changes nothing",
            mutation["name"]
        );
        assert!(
            names.insert(mutation["name"].clone()),
            "two mutations are called {}",
            mutation["name"]
        );
    }
    assert!(names.len() >= 60, "there are only {} mutations", names.len());
}

#[test]
fn every_mutation_names_a_test_that_cites_its_rule() {
    let faults: Vec<String> = mutations()
        .iter()
        .filter(|mutation| {
            let (binary, function) = mutation["test"].split_once("::").expect("test is file::function");
            let comment = doc_comment(&read(&format!("tests/{binary}.rs")), function);
            !comment.is_some_and(|comment| comment.contains(&mutation["rule"]))
        })
        .map(|mutation| {
            format!(
                "{}: {} does not cite {}",
                mutation["name"], mutation["test"], mutation["rule"]
            )
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `[[mutation]]` tables of the list, which is TOML of the simplest kind: every value is a literal string of
/// one line.
fn mutations() -> Vec<Mutation> {
    let mut mutations = Vec::new();
    for line in read("tests/mutations.toml").lines().map(str::trim) {
        if line == "[[mutation]]" {
            mutations.push(Mutation::new());
        } else if !line.is_empty() && !line.starts_with('#') {
            let (key, value) = line
                .split_once(" = ")
                .unwrap_or_else(|| panic!("not `key = 'value'`: {line}"));
            let mutation = mutations.last_mut().expect("a table before its keys");
            mutation.insert(key.to_owned(), literal(value).to_owned());
        }
    }
    mutations
}

fn literal(value: &str) -> &str {
    ["'''", "'"]
        .iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or_else(|| panic!("not a literal string of one line: {value}"))
}

/// The documentation of the function with this name.
fn doc_comment(source: &str, function: &str) -> Option<String> {
    let signature = format!("fn {}(", function.rsplit("::").next()?);
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let position = lines.iter().position(|line| line.contains(&signature))?;
    let comment: Vec<&str> = lines[..position]
        .iter()
        .rev()
        .take_while(|line| line.starts_with(['#', '/']))
        .copied()
        .collect();
    Some(comment.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
