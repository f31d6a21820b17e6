//! Keeps the documentation true: options, environment variables, defaults, `$SYS` topics, links and the example of
//! README.md are compared with the program.

mod common;
use common::*;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The example of README.md, which is compiled and run with the tests.
mod embedding {
    include!("../docs/embedding.rs");

    pub(super) fn run() {
        main().expect("the example runs");
    }
}

/// Options in the documentation that belong to other programs.
const FOREIGN_OPTIONS: &[&str] = &[
    // redis-server and redis-cli
    "--appendfsync",
    "--appendonly",
    "--askpass",
    "--bind",
    "--daemonize",
    "--dir",
    "--logfile",
    "--maxmemory",
    "--pidfile",
    "--rdb",
    "--save",
    "--user",
    // curl
    "--retry",
    "--retry-connrefused",
    "--retry-delay",
    // kubectl
    "--current",
    "--from-file",
    "--from-literal",
    "--namespace",
    "--prefix",
    "--tail",
    // benches/sizing
    "--sessions",
    // tests/kill/run
    "--backend",
    "--haproxy",
    "--lease",
    "--nodes",
    "--race",
    "--crowd",
    "--seed",
    "--log",
    "--faults",
    "--loses",
    // mosquitto_pub and mosquitto_sub
    "--capath",
    "--ciphers",
    "--tls-version",
    "--psk",
    "--proxy",
    "--remove-retained",
    "--random-filter",
    "--pretty",
    // useradd, systemctl
    "--system",
    "--user-group",
    "--no-create-home",
    "--shell",
    "--now",
    "--cafile",
    // Mosquitto and aedes-cli
    "--config-file",
    "--test-config",
    "--tls-keylog",
    "--protos",
    "--credentials",
    // cargo and cargo-fuzz
    "--release",
    "--path",
    "--open",
    "--check",
    "--all-targets",
    "--test",
    "--lib",
    "--no-deps",
    "--cfg",
    "--target",
    "--fuzz-dir",
    "--example",
    "--bench",
    // benches/compare and benches/idle
    "--rounds",
    "--seconds",
    "--shapes",
    "--peers",
    "--broker",
    "--cores",
    "--broker-cores",
    "--latency-rate",
    // benches/store
    "--redis-cores",
    "--load-cores",
    "--soak",
    "--csv",
    // benches/cluster
    "--aedes-clients",
    // Cargo, in tests/cluster
    "--manifest-path",
    "--test",
    // tests/run
    "--yes",
    "--only",
    "--list",
    "--setup",
    // kubectl
    "--dry-run",
    // docker
    "--rm",
    "--ulimit",
    "--read-only",
    "--cap-drop",
    "--time",
    "--health-cmd",
    "--network",
    "--signal",
    "--build",
    "--detach",
    "--force-recreate",
    "--wait",
];

/// Variables that begin like the broker's and belong to the tests, or to no option: a token is not for command lines.
const FOREIGN_VARIABLES: &[&str] = &["BROKER_BIN", "BROKER_HTTP_TOKEN"];

/// An option as `broker --help` describes it.
#[derive(Debug, Default)]
struct Described {
    variable: Option<String>,
    default: Option<String>,
}

#[test]
fn every_option_has_a_row_with_its_variable_and_default() {
    let table = table_rows("docs/options.md");
    for (name, described) in options() {
        check_row("docs/options.md", &name, &described, &table);
    }
}

/// README has its own tables, without `--help` and `--version`.
#[test]
fn the_tables_of_the_readme_have_every_option() {
    let table = table_rows("README.md");
    for (name, described) in options()
        .into_iter()
        .filter(|(_, described)| described.variable.is_some())
    {
        check_row("README.md", &name, &described, &table);
    }
}

#[test]
fn no_document_names_an_option_that_does_not_exist() {
    let mut options = options();
    options.extend(shapes().into_values().flatten());
    options.extend(options_of_ctl());
    options.extend(clients().into_values().flatten());
    for command in [
        &["passwd", "add"][..],
        &["passwd", "import"],
        &["acl", "check"],
        &["config", "import"],
        &["store", "check"],
        &["store", "doctor"],
        &["store", "stats"],
        &["store", "export"],
        &["store", "import"],
        &["healthcheck"],
        &["man"],
    ] {
        options.extend(described_by(&help(&[command, &["--help"]].concat())));
    }
    let mut faults = Vec::new();
    for document in documents() {
        for word in words(&document.text, |c| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
        }) {
            let is_option = word.starts_with("--") && word.len() > 3 && !word.ends_with('-');
            if is_option && !options.contains_key(word) && !FOREIGN_OPTIONS.contains(&word) {
                faults.push(format!("{}: {word}", document.name));
            }
        }
    }
    assert!(faults.is_empty(), "unknown options:\n{}", faults.join("\n"));
}

/// What stands behind `broker bench SHAPE` in a line is an option of just that shape.
#[test]
fn every_command_of_the_load_generator_would_run() {
    let shapes = shapes();
    let mut faults = Vec::new();
    for document in documents() {
        let lines = document.text.lines();
        for command in lines.flat_map(|line| line.split("broker bench ").skip(1)) {
            // A command ends with its code span, and its output may follow.
            let command = command.split('`').next().unwrap_or_default();
            let mut words = command.split_whitespace();
            let Some(shape) = words
                .next()
                .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            match shapes.get(shape) {
                None => faults.push(format!("{}: broker bench {shape}", document.name)),
                Some(options) => faults.extend(
                    words
                        .filter(|word| word.starts_with("--") && !options.contains_key(*word))
                        .map(|word| format!("{}: broker bench {shape} {word}", document.name)),
                ),
            }
        }
    }
    assert!(
        faults.is_empty(),
        "unknown shapes, or options of another one:\n{}",
        faults.join("\n")
    );
}

/// A row is for one shape if its first cell names that shape, too.
#[test]
fn every_option_of_the_load_generator_has_a_row_with_its_default() {
    let shapes = shapes();
    let table = table_rows("docs/bench.md");
    for (shape, options) in &shapes {
        let is_for_it = |row: &&String| {
            let cell = first_cell(row);
            let names = words(&cell, |c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let mut named = names.filter(|word| shapes.contains_key(*word)).peekable();
            named.peek().is_none() || named.any(|word| word == shape)
        };
        let rows: Vec<_> = table.iter().filter(is_for_it).cloned().collect();
        for (name, described) in options.iter().filter(|(name, _)| *name != "--help") {
            check_row("docs/bench.md", name, described, &rows);
        }
    }
}

#[test]
fn every_option_of_ctl_is_described() {
    let text = read("docs/http-api.md");
    for (name, described) in options_of_ctl().iter().filter(|(name, _)| *name != "--help") {
        let is_named = words(&text, is_of_an_option).any(|word| word == name);
        assert!(is_named, "docs/http-api.md does not name {name}");
        let variable = described.variable.as_deref().unwrap_or_default();
        assert!(text.contains(variable), "docs/http-api.md does not name {variable}");
    }
}

#[test]
fn every_option_of_the_clients_has_a_row_with_its_default() {
    let text = read("docs/clients.md");
    for (command, options) in clients() {
        // What is said of the other is not meant.
        let other = if command == "pub" { "sub" } else { "pub" };
        let mut table = Vec::new();
        for part in split_before(&text, |line| line.starts_with("## ")) {
            if !part.starts_with(&format!("## `broker {other}`")) {
                table.extend(part.lines().filter(|line| line.starts_with('|')).map(str::to_owned));
            }
        }
        for (name, described) in &options {
            // Variables are explained there, not listed.
            let default = described.default.clone();
            check_row(
                "docs/clients.md",
                name,
                &Described {
                    variable: None,
                    default,
                },
                &table,
            );
        }
    }
}

#[test]
fn no_document_names_a_variable_that_does_not_exist() {
    let clients = clients().into_values().flat_map(BTreeMap::into_values);
    let variables: BTreeSet<_> = options()
        .into_values()
        .chain(options_of_ctl().into_values())
        .chain(clients)
        .filter_map(|described| described.variable)
        .collect();
    let mut faults = Vec::new();
    for document in documents() {
        for word in words(&document.text, |c| {
            c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
        }) {
            let is_variable = word.len() > "BROKER_".len() && word.starts_with("BROKER_");
            if is_variable && !variables.contains(word) && !FOREIGN_VARIABLES.contains(&word) {
                faults.push(format!("{}: {word}", document.name));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "unknown environment variables:\n{}",
        faults.join("\n")
    );
}

/// In both directions: a topic that is published and not described, and one that is described and not published.
#[test]
fn the_list_of_sys_topics_is_complete() {
    let published = published_sys_topics();
    let text = read("docs/sys-topics.md");
    let described: BTreeSet<String> = code_spans(&text)
        .filter(|span| span.starts_with("$SYS/broker/") || span.starts_with("$SYS/<id>/"))
        .filter(|span| !span.ends_with('/') && !span.ends_with('…'))
        .flat_map(expand)
        .collect();
    let undescribed: Vec<_> = published.difference(&described).collect();
    let unpublished: Vec<_> = described.difference(&published).collect();
    assert!(undescribed.is_empty(), "not in docs/sys-topics.md: {undescribed:#?}");
    assert!(
        unpublished.is_empty(),
        "in docs/sys-topics.md, but not published: {unpublished:#?}"
    );
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut faults = Vec::new();
    for document in documents() {
        for target in links(&document.text) {
            if let Err(fault) = follow(&document, target) {
                faults.push(format!("{}: {target}: {fault}", document.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_example_of_the_readme_is_the_one_that_runs() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```rust\n").expect("README.md has Rust code");
    let (example, _) = rest.split_once("```").expect("the code ends");
    assert_eq!(example, read("docs/embedding.rs"), "README.md and docs/embedding.rs");
    embedding::run();
}

/// The file that the licence's name in Cargo.toml promises is there.
#[test]
fn the_licences_are_there() {
    for (file, beginning) in [("LICENSE-MIT", "MIT License"), ("LICENSE-APACHE", "Apache License")] {
        assert!(read(file).trim_start().starts_with(beginning), "{file}");
    }
}

#[test]
fn the_change_log_knows_this_version() {
    let heading = format!("## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(
        read("CHANGELOG.md").lines().any(|line| line.starts_with(&heading)),
        "CHANGELOG.md has no {heading}"
    );
}

/// What the parsers of this file take for options, links and topics.
#[test]
fn the_parsers_read_what_they_should() {
    assert_eq!(expand("a/{b,c}/{d,e}"), ["a/b/d", "a/b/e", "a/c/d", "a/c/e"]);
    assert_eq!(
        links("[a](b.md) `[x](y)`\n```\n[c](d)\n```\n[e](https://f) [g](#h)"),
        ["b.md", "https://f", "#h"]
    );
    assert_eq!(slug("`$SYS` topics"), "sys-topics");
    assert_eq!(slug("What is not there yet"), "what-is-not-there-yet");
    assert_eq!(code_spans("a `b` c `d`").collect::<Vec<_>>(), ["b", "d"]);
    let help = options();
    assert_eq!(help["--port"].default.as_deref(), Some("1883"));
    assert_eq!(
        help["--queue-overflow"].variable.as_deref(),
        Some("BROKER_QUEUE_OVERFLOW")
    );
    assert_eq!(help["--host"].default.as_deref(), Some("all interfaces, IPv4 and IPv6"));
    assert!(help.len() > 25 && help["--version"].variable.is_none());
    let shapes = shapes();
    assert_eq!(shapes["match"]["--topics"].default.as_deref(), Some("10000"));
    assert!(
        shapes.len() >= 9 && !shapes["conn"].contains_key("--pairs"),
        "{:?}",
        shapes.keys()
    );
}

// ---- the program ----------------------------------------------------------------------------------------------------

/// The options of the broker.
fn options() -> BTreeMap<String, Described> {
    described_by(&help(&["--help"]))
}

/// The options of `broker ctl` and its commands.
fn options_of_ctl() -> BTreeMap<String, Described> {
    let commands = [
        &["clients"][..],
        &["kick"],
        &["subscriptions"],
        &["publish"],
        &["trace", "add"],
    ];
    let helps = commands.map(|command| help(&[&["ctl"], command, &["--help"]].concat()));
    helps.iter().flat_map(|help| described_by(help)).collect()
}

/// The shapes of load that `broker bench` knows, with their options.
fn shapes() -> BTreeMap<String, BTreeMap<String, Described>> {
    let help_of_all = help(&["bench", "--help"]);
    let (_, commands) = help_of_all.split_once("Commands:\n").expect("has shapes");
    let (commands, _) = commands.split_once("\n\n").expect("the list ends");
    // The lines of a description that goes on are further in.
    let names = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty())
        .map(|name| (name.to_owned(), described_by(&help(&["bench", name, "--help"]))))
        .collect()
}

/// The clients of the command line, with their options.
fn clients() -> BTreeMap<&'static str, BTreeMap<String, Described>> {
    let described = |name| (name, described_by(&help(&[name, "--help"])));
    ["pub", "sub"].into_iter().map(described).collect()
}

fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    // A value that is set would stand in the help.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BROKER_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).output().expect("the broker runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("is UTF-8")
}

/// The options that the text explains.
fn described_by(help: &str) -> BTreeMap<String, Described> {
    let mut options = BTreeMap::new();
    // The paragraphs of one option go together, and a line may be broken within brackets.
    for text in split_before(help, |line| {
        line.trim_start().starts_with('-') && line.find("--").is_some_and(|at| at < 8)
    }) {
        let name = words(text, is_of_an_option).find(|word| word.starts_with("--"));
        if let Some(name) = name {
            options.insert(
                name.trim_end_matches('-').trim_end_matches('.').to_owned(),
                describe(text),
            );
        }
    }
    options
}

fn describe(text: &str) -> Described {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let within = |start: &str, end: char| {
        let (_, rest) = text.split_once(start)?;
        // A variable whose value is hidden has no = behind it.
        Some(rest.split([end, ']']).next()?.trim().to_owned())
    };
    Described {
        variable: within("[env: ", '='),
        default: within("[default: ", ']'),
    }
}

/// Pieces of the text, each of which begins with a line that `begins` accepts.
fn split_before(text: &str, begins: impl Fn(&str) -> bool) -> Vec<&str> {
    let mut starts = Vec::new();
    let mut position = 0;
    for line in text.split_inclusive('\n') {
        if begins(line) {
            starts.push(position);
        }
        position += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().zip(ends).map(|(start, end)| &text[*start..end]).collect()
}

/// The topics below `$SYS`, with `<id>` for the broker's own identifier: retained ones, heartbeats, and those that tell
/// of a client which comes, subscribes, unsubscribes and goes.
fn published_sys_topics() -> BTreeSet<String> {
    let broker = Broker::start(&["--sys-interval", "0.05", "--aedes-sys-topics"]);
    let id = after_an_update(&broker);
    let mut reader = broker.v5("reader");
    reader.subscribe("$SYS/#", 0);
    // The retained messages come first.
    let mut client = broker.v5("client");
    client.subscribe("a", 0);
    client.unsubscribe("a");
    client.disconnect();
    let mut topics = BTreeSet::new();
    while !["heartbeat", "disconnect/clients"]
        .iter()
        .all(|name| topics.contains(&format!("$SYS/<id>/{name}")))
    {
        topics.insert(reader.message().topic.replace(&format!("$SYS/{id}/"), "$SYS/<id>/"));
    }
    topics
}

/// Waits until all topics have been published, and returns the identifier of the broker.
fn after_an_update(broker: &Broker) -> String {
    let mut reader = broker.v5("");
    reader.subscribe("$SYS/+/uptime", 0);
    loop {
        let message = reader.message();
        let id = message.topic.split('/').nth(1).expect("has levels");
        // Not from the first update, so that one is complete.
        if id != "broker" && message.text() != "0" {
            return id.to_owned();
        }
    }
}

// ---- the documents --------------------------------------------------------------------------------------------------

struct Document {
    /// Relative to the root of the project.
    name: String,
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every Markdown file of the project.
fn documents() -> Vec<Document> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    assert!(paths.len() >= 8, "only {} documents", paths.len());
    let name = |path: &Path| {
        path.strip_prefix(root())
            .expect("is below the root")
            .display()
            .to_string()
    };
    paths
        .into_iter()
        .map(|path| Document {
            name: name(&path),
            text: fs::read_to_string(&path).expect("is readable"),
            path,
        })
        .collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("is readable") {
        let path = entry.expect("is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "node_modules", "corpus", "artifacts"].contains(&&*name) {
                collect(&path, paths);
            }
        } else if name.ends_with(".md") {
            paths.push(path);
        }
    }
}

/// Rows of tables, as text.
fn table_rows(name: &str) -> Vec<String> {
    read(name)
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect()
}

/// The row whose first cell names the option also has its variable and its default.
fn check_row(document: &str, name: &str, described: &Described, table: &[String]) {
    let is_row = |row: &&String| words(&first_cell(row), is_of_an_option).any(|word| word == name);
    let row = table
        .iter()
        .find(is_row)
        .unwrap_or_else(|| panic!("{document} has no row for {name}"));
    let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
    if let Some(variable) = &described.variable {
        assert!(
            cells.contains(&&**variable),
            "{document}: {name} has the variable {variable}: {row}"
        );
    }
    if let Some(default) = &described.default {
        let has_default = cells
            .iter()
            .any(|cell| *cell == *default || default.starts_with(&format!("{cell}, ")));
        assert!(has_default, "{document}: {name} has the default {default}: {row}");
    }
}

fn first_cell(row: &str) -> String {
    row.replace("\\|", "/").split('|').nth(1).unwrap_or_default().to_owned()
}

fn is_of_an_option(c: char) -> bool {
    c.is_ascii_lowercase() || c == '-'
}

/// Runs of characters that belong to a word.
fn words(text: &str, belongs: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c| !belongs(c)).filter(|word| !word.is_empty())
}

/// The text between single backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// `a/{b,c}` stands for `a/b` and `a/c`.
fn expand(pattern: &str) -> Vec<String> {
    let Some((before, (choices, after))) = pattern
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    else {
        return vec![pattern.to_owned()];
    };
    choices
        .split(',')
        .flat_map(|choice| expand(&format!("{before}{choice}{after}")))
        .collect()
}

/// The targets of `[text](target)` outside of code.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2).flat_map(|part| part.split('`').step_by(2));
    prose
        .flat_map(|part| part.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

fn follow(document: &Document, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => document.path.clone(),
        _ => document.path.parent().expect("is in a directory").join(file),
    };
    if !path.exists() {
        return Err("no such file".to_owned());
    }
    if anchor.is_empty() {
        return Ok(());
    }
    let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    match headings.any(|line| slug(line.trim_start_matches('#')) == anchor) {
        true => Ok(()),
        false => Err("no such heading".to_owned()),
    }
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}
