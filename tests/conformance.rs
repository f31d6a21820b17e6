//! Compares the normative statements of both specifications with `tests/conformance.md` and the tests with both.
//!
//! * Every id of `tests/conformance/*.ids` has exactly one row, in the order of the specification, and no row is there
//!   for anything else.
//! * A row names tests (`` `will.rs::delay` ``, `` `src/codec/frame.rs::name` ``) that exist and cite its id,
//!   or begins with a reason why there is none: `client:`, `not applicable:`, `waits:` or `untested:`.
//! * Every id that a test cites is one of the specification's, and no test that cites it is missing from its row.
//! * Of the statements that bind a server, at most five per cent have no test.
//!
//! A test cites an id by having it in brackets in its doc comment or its body. To bring the table up to date after new
//! citations: `CONFORMANCE_UPDATE=1 cargo test --test conformance`. Paraphrases and reasons are written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// `will.rs::delay`, as the table names it.
type TestName = String;
/// Which tests cite an id.
type Citations = BTreeMap<String, BTreeSet<TestName>>;

struct Row {
    id: String,
    paraphrase: String,
    proof: String,
}

/// Reasons for which a row may have no test.
const REASONS: [&str; 4] = [CLIENT_ONLY, NOT_APPLICABLE, WAITS, UNTESTED];
/// It says what a client does, and a server cannot see whether it does.
const CLIENT_ONLY: &str = "client: ";
/// Its condition is never true of this broker.
const NOT_APPLICABLE: &str = "not applicable: ";
/// What it is about does not exist yet.
const WAITS: &str = "waits: ";
/// It binds this broker and nothing proves it.
const UNTESTED: &str = "untested: ";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Ids with their statements, MQTT 5.0 first, in the order of the specifications.
fn statements() -> Vec<(String, String)> {
    let entry = |line: &str| line.split_once('\t').map(|(id, text)| (id.to_owned(), text.to_owned()));
    ["v5.0", "v3.1.1"]
        .map(|version| read(&root().join(format!("tests/conformance/{version}.ids"))))
        .iter()
        .flat_map(|list| {
            list.lines()
                .map(|line| entry(line).expect("an id, a tab and the statement"))
        })
        .collect()
}

/// The rows of the table: lines of three cells whose first is an id.
fn table() -> Vec<Row> {
    let cells = |line: &str| -> Option<Row> {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.splitn(3, " | ").collect();
        let [id, paraphrase, proof] = cells[..] else {
            return None;
        };
        let own = |text: &str| text.trim().to_owned();
        id.starts_with("MQTT").then(|| Row {
            id: own(id),
            paraphrase: own(paraphrase),
            proof: own(proof),
        })
    };
    read(&root().join("tests/conformance.md"))
        .lines()
        .filter_map(cells)
        .collect()
}

/// All Rust files below a directory.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            // tests/.cache has copies.
            continue;
        }
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The tests of the project with the ids that each cites: integration tests by file, unit tests by path.
fn tests() -> BTreeMap<TestName, BTreeSet<String>> {
    let mut tests = BTreeMap::new();
    for file in rust_files(&root().join("tests")) {
        let name = file
            .strip_prefix(root().join("tests"))
            .expect("below it")
            .display()
            .to_string();
        // Not this file, which is about all ids.
        if name != "conformance.rs" {
            tests.extend(tests_of(&read(&file), &name));
        }
    }
    for file in rust_files(&root().join("src")) {
        let name = file.strip_prefix(root()).expect("below it").display().to_string();
        tests.extend(tests_of(&read(&file), &name));
    }
    tests
}

/// Finds test functions by the shape that rustfmt gives them: an attribute that ends in `test]`, with the doc comment
/// above it, and a body that ends with a brace in the column of `fn`.
fn tests_of(source: &str, file: &str) -> Vec<(TestName, BTreeSet<String>)> {
    let lines: Vec<&str> = source.lines().collect();
    let is_test = |line: &str| line.trim_start().starts_with("#[") && line.ends_with("test]");
    let mut found = Vec::new();
    for at in (0..lines.len()).filter(|&at| is_test(lines[at])) {
        let before = lines[..at]
            .iter()
            .rev()
            .take_while(|line| is_comment_or_attribute(line))
            .count();
        let Some(function) = (at..lines.len()).find(|&line| function_name(lines[line]).is_some()) else {
            continue;
        };
        let name = function_name(lines[function]).expect("found above");
        let indent = lines[function].len() - lines[function].trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[function..].iter().take_while(|line| **line != end).count();
        let text = lines[at - before..function + length].join("\n");
        found.push((format!("{file}::{name}"), cited_ids(&text)));
    }
    found
}

fn is_comment_or_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[")
}

fn function_name(line: &str) -> Option<&str> {
    let line = line.trim_start().trim_start_matches("async ");
    Some(line.strip_prefix("fn ")?.split('(').next().unwrap_or_default())
}

/// Ids in brackets: `[MQTT-…]`, `[MQTT3-…]`.
fn cited_ids(text: &str) -> BTreeSet<String> {
    let bracketed = text
        .split('[')
        .skip(1)
        .filter_map(|rest| rest.split_once(']').map(|(id, _)| id));
    let is_id = |id: &&str| {
        let number = id.strip_prefix("MQTT-").or_else(|| id.strip_prefix("MQTT3-"));
        number.is_some_and(|number| number.contains('-') && number.starts_with(|first: char| first.is_ascii_digit()))
    };
    bracketed.filter(is_id).map(str::to_owned).collect()
}

fn citations(tests: &BTreeMap<TestName, BTreeSet<String>>) -> Citations {
    let mut citations = Citations::new();
    for (test, ids) in tests {
        for id in ids {
            citations.entry(id.clone()).or_default().insert(test.clone());
        }
    }
    citations
}

/// The tests that a proof names, in backticks.
fn named_tests(proof: &str) -> BTreeSet<TestName> {
    proof.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Writes the tests that cite each id into the table, and leaves everything else as it is.
fn update(citations: &Citations) {
    let path = root().join("tests/conformance.md");
    let mut text = String::new();
    let mut rows = table().into_iter().peekable();
    for line in read(&path).lines() {
        let row = rows.next_if(|row| line.starts_with(&format!("| {} |", row.id)));
        match row.and_then(|row| Some((citations.get(&row.id)?, row))) {
            Some((tests, row)) => {
                let names: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
                writeln!(text, "| {} | {} | {} |", row.id, row.paraphrase, names.join(", ")).expect("memory");
            }
            None => writeln!(text, "{line}").expect("memory"),
        }
    }
    std::fs::write(&path, text).expect("the table can be written");
}

/// What is wrong with a row, if anything.
fn fault(row: &Row, tests: &BTreeMap<TestName, BTreeSet<String>>, citations: &Citations) -> Option<String> {
    let named = named_tests(&row.proof);
    let wrong = named
        .iter()
        .find(|test| !tests.get(*test).is_some_and(|ids| ids.contains(&row.id)));
    if let Some(test) = wrong {
        return Some(format!("{}: {test} does not exist or does not cite it", row.id));
    }
    let missing = citations
        .get(&row.id)
        .and_then(|citing| citing.difference(&named).next());
    if let Some(test) = missing {
        return Some(format!("{}: {test} cites it and is not in its row", row.id));
    }
    let has_reason = REASONS
        .iter()
        .any(|reason| row.proof.len() > reason.len() + 10 && row.proof.starts_with(reason));
    let explained = !named.is_empty() || has_reason;
    (!explained || row.paraphrase.is_empty()).then(|| format!("{}: neither test nor reason, or no paraphrase", row.id))
}

/// The table is complete, and true of the tests.
#[test]
fn table_and_tests_agree() {
    let tests = tests();
    assert!(tests.len() > 100, "the tests are not found: {}", tests.len());
    let citations = citations(&tests);
    if std::env::var_os("CONFORMANCE_UPDATE").is_some() {
        update(&citations);
    }
    let rows = table();
    let ids: Vec<String> = statements().into_iter().map(|(id, _)| id).collect();
    let mut faults: Vec<String> = rows.iter().filter_map(|row| fault(row, &tests, &citations)).collect();
    let in_table: Vec<&String> = rows.iter().map(|row| &row.id).collect();
    faults.extend(
        ids.iter()
            .filter(|id| !in_table.contains(id))
            .map(|id| format!("{id}: no row")),
    );
    faults.extend(
        citations
            .keys()
            .filter(|id| !ids.contains(id))
            .map(|id| format!("{id}: cited, but not an id")),
    );
    assert!(
        faults.is_empty(),
        "(CONFORMANCE_UPDATE=1 renews the table)\n{}",
        faults.join("\n")
    );
    assert!(
        in_table.into_iter().eq(&ids),
        "one row for each id, in the order of the specification"
    );
}

/// At most five per cent of the statements that bind a server and apply to this broker have no test.
#[test]
fn few_statements_have_no_test() {
    let rows = table();
    let binding: Vec<&Row> = rows
        .iter()
        .filter(|row| {
            ![CLIENT_ONLY, NOT_APPLICABLE]
                .iter()
                .any(|reason| row.proof.starts_with(reason))
        })
        .collect();
    let without: Vec<&str> = binding
        .iter()
        .filter(|row| named_tests(&row.proof).is_empty())
        .map(|row| row.id.as_str())
        .collect();
    let share = without.len() * 100;
    assert!(
        share <= binding.len() * 5,
        "{} of {}: {without:?}",
        without.len(),
        binding.len()
    );
}

/// The list of ids is that of the specifications: 251 statements of MQTT 5.0 and 141 of MQTT 3.1.1, none twice.
#[test]
fn list_of_ids_is_complete() {
    let statements = statements();
    let ids: BTreeSet<&str> = statements.iter().map(|(id, _)| id.as_str()).collect();
    let of_v3 = ids.iter().filter(|id| id.starts_with("MQTT3-")).count();
    assert_eq!((statements.len(), ids.len(), of_v3), (392, 392, 141));
    assert!(statements.iter().all(|(_, text)| text.len() > 20), "each has its text");
}

/// Citations are found where they stand, and nowhere else.
#[test]
fn finds_citations() {
    let source = "/// Proves [MQTT-1.2.3-4]\n/// [MQTT3-1.2-3].\n#[test]\nfn one() {\n    // [MQTT-9.9.9-9]\n}\n\n\
                  /// Not a test [MQTT-7.7.7-7].\nfn helper() {}\n\n\
                  mod tests {\n    /// [MQTT-…] [0] [MQTT-5.5.5-5]\n    #[tokio::test]\n    async fn two() {\n    }\n}\n";
    let found = tests_of(source, "x.rs");
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<String>>();
    let one = (
        "x.rs::one".to_owned(),
        ids(&["MQTT-1.2.3-4", "MQTT3-1.2-3", "MQTT-9.9.9-9"]),
    );
    assert_eq!(found, [one, ("x.rs::two".to_owned(), ids(&["MQTT-5.5.5-5"]))]);
}
