//! Holds the architecture: imports point one way, and crates that are confined to one module stay there.
//!
//! What is compared is the text of `src/`, without comments and without tests. Modules refer to others as
//! `crate::module::…`; the names that `lib.rs` re-exports are for programs and for the command line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the library, each of which may use those before it and none behind it. A new module needs a place
/// here. ("session knows no socket and no store" and the like follow from the place.)
const ORDER: &[&[&str]] = &[
    // The vocabulary: plain data, no input or output.
    &[
        "wire",
        "time",
        "rate",
        "reason",
        "stats",
        "topic",
        "properties",
        "packet",
        "identity",
        "message",
        "events",
        "hooks",
    ],
    // Bytes to packets and back.
    &["codec"],
    // What outlives the process: changes, batches of them, and who keeps those.
    &["store"],
    // The state of one client.
    &["session"],
    // The settings, one of which is a policy of the session's queue.
    &["config"],
    // Who may do what, by files.
    &["access"],
    &["router"],
    &["broker"],
    &["handlers"],
    // What connections come over, each kind in a file.
    &["transport"],
    &["connection"],
    &["server"],
    // The handle for programs, which holds the core and starts what is above it.
    &["api"],
    &["client"],
    &["cmd"],
    &["cli"],
];

/// Imports against the order that are there today, with the reason. One that is no longer there must go from the list.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// What only these modules may name.
const CONFINED: &[(&str, &[&str])] = &[
    ("mqttbytes", &["codec"]),
    ("clap", &["cli", "cmd"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("mio", &["cmd"]),
    ("tracing_subscriber", &["cli"]),
    // In access: the priority of the threads that hash.
    ("rustix", &["cli", "cmd", "access/background.rs"]),
    ("socket2", &["cli", "transport"]),
    // The pool connects to the endpoint that is asked who may connect.
    (
        "tokio::net",
        &["transport", "server", "cli", "api", "cmd", "access/http/pool.rs"],
    ),
    (
        "tokio::io",
        &["transport", "connection", "server", "api", "cmd", "access/http/pool.rs"],
    ),
    // The keys for tokens are PEM.
    (
        "tokio_rustls",
        &[
            "transport",
            "cmd",
            "access/http/pool.rs",
            "access/jwt/keys.rs",
            // It chooses the cryptography of connections to Redis.
            "store/redis/connect.rs",
        ],
    ),
    // The other files name the module.
    ("redis", &["store/redis", "store/mod.rs", "store/open.rs"]),
    ("tokio_tungstenite", &["transport", "cmd"]),
    ("x509_parser", &["transport"]),
    ("argon2", &["access"]),
    ("stringprep", &["access"]),
    ("jsonwebtoken", &["access"]),
    // `broker ctl` is a client of the HTTP listener.
    (
        "hyper",
        &["cli", "cmd/ctl/request.rs", "access/http.rs", "access/http/pool.rs"],
    ),
    ("serde_json", &["cli", "cmd", "access"]),
    // An access list may be in TOML.
    ("toml", &["cli", "access/acl/rules.rs"]),
    ("redb", &["store/disk"]),
    ("crc32fast", &["store"]),
    // In cli: the token of the HTTP API is compared in constant time.
    ("aws_lc_rs", &["access", "transport", "cmd", "cli"]),
];

/// A file of the library, reduced to its code.
struct Source {
    /// Relative to `src/`.
    path: String,
    code: String,
}

#[test]
fn every_module_has_a_place_in_the_order() {
    let found: BTreeSet<_> = sources().iter().map(|source| source.module().to_owned()).collect();
    let placed: BTreeSet<_> = ORDER.iter().copied().flatten().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        found, placed,
        "modules of src/ (left) and of ORDER in tests/layout.rs (right)"
    );
}

#[test]
fn imports_point_one_way() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        for target in source.imports() {
            if place(&target) <= place(source.module()) {
                continue;
            }
            match EXCEPTIONS
                .iter()
                .find(|exception| **exception == (&*source.path, &*target))
            {
                Some(exception) => {
                    used.insert(exception);
                }
                None => faults.push(format!("src/{} uses {target}, which is above it", source.path)),
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let unused: Vec<_> = EXCEPTIONS
        .iter()
        .filter(|exception| !used.contains(exception))
        .collect();
    assert!(unused.is_empty(), "exceptions that are not needed any more: {unused:?}");
}

#[test]
fn only_the_command_line_uses_what_the_library_exports() {
    for source in sources().iter().filter(|source| source.module() != "cli") {
        let names: Vec<_> = source.crate_paths().filter(|name| !is_module_name(name)).collect();
        assert!(
            names.is_empty(),
            "src/{} should name the modules of {names:?}",
            source.path
        );
    }
}

#[test]
fn no_path_climbs_out_of_its_module() {
    for source in sources() {
        assert!(
            !source.code.contains("super::super"),
            "src/{} should begin the path with crate::",
            source.path
        );
    }
}

#[test]
fn confined_crates_stay_in_their_module() {
    let mut faults = Vec::new();
    for source in sources() {
        for (name, modules) in CONFINED {
            let allowed = modules.iter().any(|module| source.is_within(module));
            if !allowed && names_crate(&source.code, name) {
                faults.push(format!(
                    "src/{} uses {name}, which only {} may",
                    source.path,
                    modules.join(", ")
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What the scanner takes for code and for an import.
#[test]
fn the_scanner_sees_imports_and_nothing_else() {
    let text = "//! crate::cli\nuse crate::{codec::frame, topic};\nfn f() { crate::time::now() } // crate::server\n\
                use crate::{Config, packet::{QoS, Will}};\n#[cfg(test)]\nmod tests { use crate::broker::Core; }\n";
    let source = Source {
        path: "router/mod.rs".into(),
        code: code_of(text),
    };
    assert_eq!(
        source.crate_paths().collect::<Vec<_>>(),
        ["codec", "topic", "time", "Config", "packet"]
    );
    assert!(names_crate("use mqttbytes::v5;", "mqttbytes") && !names_crate("my_mqttbytes::v5", "mqttbytes"));
    assert!(names_crate("use tokio::{io, net::TcpListener};", "tokio::net"));
    assert!(!names_crate("use tokio::{io, time};", "tokio::net"));
}

impl Source {
    /// The top-level module that the file belongs to.
    fn module(&self) -> &str {
        let end = self.path.find(['/', '.']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// Whether the module is its own, or the file itself, or a directory that it is in.
    fn is_within(&self, module: &str) -> bool {
        let rest = self.path.strip_prefix(module);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    }

    /// Other top-level modules that the file uses.
    fn imports(&self) -> BTreeSet<String> {
        self.crate_paths()
            .filter(|name| is_module_name(name) && name != self.module())
            .collect()
    }

    /// The first names of all paths from the root of the library.
    fn crate_paths(&self) -> impl Iterator<Item = String> {
        first_names(&self.code, "crate").into_iter()
    }
}

/// The names directly behind `root::`, also within braces.
fn first_names(code: &str, root: &str) -> Vec<String> {
    let start = format!("{root}::");
    let mut names = Vec::new();
    for (position, _) in code.match_indices(&start) {
        if code[..position].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = &code[position + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_names(group)),
            None => names.push(identifier(rest).to_owned()),
        }
    }
    names
}

/// The first names within `{a::b, c, d::{e, f}}`, whose opening brace has been read.
fn group_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut names = Vec::new();
    let mut at_start = true;
    for (position, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if at_start && depth == 0 && !character.is_whitespace() => {
                names.push(identifier(&group[position..]).to_owned());
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

/// Modules have names in lower case; what `lib.rs` re-exports begins with a capital letter.
fn is_module_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
}

fn names_crate(code: &str, name: &str) -> bool {
    match name.split_once("::") {
        Some((root, module)) => first_names(code, root).iter().any(|first| first == module),
        None => !first_names(code, name).is_empty(),
    }
}

fn place(module: &str) -> usize {
    let place = ORDER.iter().position(|group| group.contains(&module));
    place.unwrap_or_else(|| panic!("{module} has no place in ORDER of tests/layout.rs"))
}

/// All files of the library but the two roots and the tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50, "src/ has only {} files", files.len());
    let relative = |file: &PathBuf| {
        file.strip_prefix(&root)
            .expect("is below src/")
            .to_string_lossy()
            .replace('\\', "/")
    };
    files
        .iter()
        .map(|file| (relative(file), file))
        .filter(|(path, _)| !["main.rs", "lib.rs"].contains(&&**path) && !is_test(path))
        .map(|(path, file)| Source {
            code: code_of(&fs::read_to_string(file).expect("is readable")),
            path,
        })
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("is readable") {
        let path = entry.expect("is readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Files that `#[cfg(test)]` modules consist of, by their names.
fn is_test(path: &str) -> bool {
    path.split(['/', '.'])
        .any(|part| part.ends_with("tests") || part == "testing")
}

/// The text without comments and without the test module, which stands at the end.
fn code_of(text: &str) -> String {
    let end = test_module(text).unwrap_or(text.len());
    let mut code = String::new();
    for line in text[..end].lines() {
        let comment = line.find("//").unwrap_or(line.len());
        code.push_str(&line[..comment]);
        code.push('\n');
    }
    code
}

/// Where `#[cfg(test)] mod … {` begins. (`#[cfg(test)]` also stands before functions and `mod …;`.)
fn test_module(text: &str) -> Option<usize> {
    let found = text.match_indices("#[cfg(test)]\nmod ");
    found.map(|(position, _)| position).find(|position| {
        let line = text[*position..].lines().nth(1).unwrap_or_default();
        line.contains('{')
    })
}
