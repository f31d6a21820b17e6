use std::io::Write;

use clap::CommandFactory;

use super::super::options::{Fault, Options, Parsed};
use super::*;

/// The options with this file and these arguments.
fn parse(text: &str, arguments: &[&str]) -> Result<Parsed, String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let all = [&["broker", "--config", path], arguments].concat();
    Parsed::new(all.into_iter().map(OsString::from).collect()).map_err(|fault| match fault {
        Fault::Parser(error) => error.to_string(),
        Fault::File(reason) => reason.replace(path, "FILE"),
    })
}

fn value(parsed: &Parsed, id: &str) -> Vec<String> {
    let values = parsed.matches.get_raw(id).into_iter().flatten();
    values.map(|value| value.to_string_lossy().into_owned()).collect()
}

#[test]
fn settings_are_options() {
    let text = "port = [1883, 1884]\nhost = \"127.0.0.1\"\nmax-packet-size = \"2M\"\nretain = false\nno-tcp = false\nverbose = 1\n";
    let parsed = parse(text, &[]).expect("valid");
    assert_eq!(value(&parsed, "port"), ["1883", "1884"].map(String::from));
    assert_eq!(parsed.options.config().max_packet_size, 2 * 1024 * 1024);
    assert!(!parsed.options.config().retain);
    assert_eq!(parsed.options.log_filter().to_string(), "debug");
}

#[test]
fn the_command_line_wins() {
    let parsed = parse("port = 1884\nmax-inflight = 10\n", &["--port", "1885"]).expect("valid");
    assert_eq!(value(&parsed, "port"), ["1885"]);
    assert_eq!(parsed.options.config().max_inflight, 10);
}

#[test]
fn faults_are_told_with_file_line_and_suggestion() {
    for (text, expected) in [
        (
            "\nprot = 1883",
            "FILE: line 2: there is no setting \"prot\"; is it \"port\" that you mean?",
        ),
        (
            "max_inflight = 1",
            "FILE: line 1: there is no setting \"max_inflight\"; is it \"max-inflight\" that you mean?",
        ),
        ("xyzzy = 1", "FILE: line 1: there is no setting \"xyzzy\""),
        ("config = \"a\"", "FILE: line 1: there is no setting \"config\""),
        ("port = true", "FILE: line 1: invalid value 'on' for '--port <PORT>'"),
        ("no-tcp = 1", "FILE: line 1: \"no-tcp\" is true or false"),
        ("host = [\"a\", \"b\"]", "FILE: line 1: \"host\" has a single value"),
        ("host = \"\"", "FILE: line 1: \"host\" is empty"),
        (
            "queue-overflow = \"drop\"",
            "FILE: line 1: invalid value 'drop' for '--queue-overflow <POLICY>' [possible values",
        ),
        ("[tls]\ncert = \"a\"", "FILE: line 1: there is no setting \"tls\""),
        ("port = 1\nport = 2", "FILE: line 2: duplicate key"),
        ("port = ", "FILE: line 1: "),
        (
            "port = 1\ntls-cert = \"a\"",
            "FILE: the following required arguments were not provided:\n  --tls-key <FILE>",
        ),
        (
            "quiet = true\nverbose = 1",
            "FILE: line 1: the argument '--quiet' cannot be used with",
        ),
    ] {
        let error = parse(text, &[]).expect_err(text);
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let missing = ConfigFile::read(Path::new("/no/such/file"), &Options::command());
    assert!(missing.expect_err("missing").starts_with("/no/such/file: No such file"));
}

/// The command line makes up for what the file lacks.
#[test]
fn file_and_command_line_are_one() {
    assert!(parse("tls-cert = \"a\"", &["--tls-key", "b"]).is_ok());
    assert!(parse("tls-key = \"b\"", &["--tls-cert", "a"]).is_ok());
}
