use proptest::prelude::*;

use super::*;
use crate::access::acl::{Acl, Who};
use crate::access::passwords::PasswordFile;

/// Made by `aedes adduser` of aedes-cli 1.0.2 for ann with "s3cret pässword", bob with "hunter2" and patterns.
const CREDENTIALS: &str = include_str!("credentials.json");

fn access(users: &[User]) -> Acl {
    let (list, notes) = access_list(Path::new("credentials.json"), users);
    assert!(notes.is_empty(), "{notes:?}");
    Acl::parse_file(Path::new("acl.toml"), &list).expect("our own format")
}

#[test]
fn the_passwords_are_those_of_aedes_cli() {
    let users = parse(CREDENTIALS.as_bytes()).expect("valid");
    let lines: String = users
        .iter()
        .map(|user| format!("{}:{}\n", user.name, user.hash))
        .collect();
    let file = PasswordFile::parse(&lines).expect("our own format");
    assert!(file.verify("ann", "s3cret pässword".as_bytes()) && file.verify("bob", b"hunter2"));
    assert!(!file.verify("ann", b"hunter2") && !file.verify("bob", b"") && !file.verify("carl", b"hunter2"));
}

#[test]
fn the_patterns_become_rules() {
    let users = parse(CREDENTIALS.as_bytes()).expect("valid");
    let acl = access(&users);
    let who = |name| Who {
        username: Some(name),
        client_id: "c",
    };
    let may_publish = |name, topic: &str| {
        matches!(
            acl.write_verdict(&who(name), topic),
            crate::access::acl::Verdict::Allowed(_)
        )
    };
    let may_subscribe = |name, filter: &str| {
        matches!(
            acl.subscribe_verdict(&who(name), filter),
            crate::access::acl::Verdict::Allowed(_)
        )
    };
    assert!(may_publish("ann", "any/topic") && may_subscribe("ann", "#") && may_subscribe("ann", "$SYS/#"));
    assert!(may_publish("bob", "hello/a") && !may_publish("bob", "hello/a/b") && !may_publish("bob", "a"));
    assert!(may_subscribe("bob", "hello/#") && may_subscribe("bob", "hello/a/+") && !may_subscribe("bob", "#"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let user = |fields: &str| format!("{{\"ann\": {fields}}}");
    let hash = "a".repeat(512);
    for (json, reason) in [
        (String::new(), "line 1 column 0"),
        (
            CREDENTIALS[..CREDENTIALS.len() / 2].to_owned(),
            "it is no credentials.json",
        ),
        ("[]".to_owned(), "it is no credentials.json"),
        ("{}".to_owned(), "no users"),
        (user("1"), "\"ann\": there is no salt"),
        (user("{}"), "\"ann\": there is no salt"),
        (user("{\"salt\": \"a\"}"), "\"ann\": there is no hash"),
        (
            user(&format!("{{\"salt\": 1, \"hash\": \"{hash}\"}}")),
            "salt is no text",
        ),
        (
            user(&format!("{{\"salt\": \"\", \"hash\": \"{hash}\"}}")),
            "the salt is damaged",
        ),
        (user("{\"salt\": \"a\", \"hash\": \"abcd\"}"), "the hash is damaged"),
        (
            user(&format!("{{\"salt\": \"a\", \"hash\": \"{}\"}}", "x".repeat(512))),
            "the hash is damaged",
        ),
        (
            user(&format!(
                "{{\"salt\": \"a\", \"hash\": \"{hash}\", \"authorizePublish\": []}}"
            )),
            "authorizePublish is no text",
        ),
        (
            format!("{{\"a:b\": {{\"salt\": \"a\", \"hash\": \"{hash}\"}}}}"),
            "a user name",
        ),
        (
            format!("{{\"a\\nb\": {{\"salt\": \"a\", \"hash\": \"{hash}\"}}}}"),
            "a user name",
        ),
        ("[".repeat(100_000), "it is no credentials.json"),
    ] {
        let error = parse(json.as_bytes()).expect_err(&json);
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
    }
    assert!(parse(b"{\"ann\xFF\": 1}").is_err());
}

/// What minimatch 10 says of these topics, and what the filters say.
#[test]
fn globs_become_filters() {
    for (glob, publish, subscribe) in [
        ("**", "#", "# $SYS/#"),
        ("*", "+", "+"),
        ("hello/*", "hello/+", "hello/+"),
        ("hello/**", "hello/+/#", "hello/#"),
        ("a/*/c/**", "a/+/c/+/#", "a/+/c/#"),
        ("/a/*", "/a/+", "/a/+"),
        ("a/{b,c}", "a/b a/c", "a/b a/c"),
        ("{a,b}/{c,d}/*", "a/c/+ a/d/+ b/c/+ b/d/+", "a/c/+ a/d/+ b/c/+ b/d/+"),
        ("a b", "a b", "a b"),
    ] {
        let joined = |filters: Result<Vec<String>, String>| {
            let mut filters = filters.expect(glob);
            if filters.len() > 2 {
                filters.sort();
            }
            filters.join(" ")
        };
        assert_eq!(joined(globs::to_publish(glob)), publish, "{glob}");
        assert_eq!(joined(globs::to_subscribe(glob)), subscribe, "{glob}");
    }
    // A client could subscribe to what stands there as a text.
    assert_eq!(globs::to_subscribe("a/+/#"), Ok(vec!["a/+/#".to_owned()]));
    for glob in [
        "a*",
        "**/a",
        "a/**/b",
        "a?",
        "[ab]",
        "a/+(b|c)",
        "!a",
        "#",
        "a\\*",
        "{a",
        "{a..c}",
        "{a}",
        "{a,{b,c}}",
        "a//b",
        "a/",
        "",
        "a/../b",
        "%u",
        "a/#/b",
        "**/**",
        "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
    ] {
        assert!(globs::to_subscribe(glob).is_err(), "{glob}");
    }
    assert!(globs::to_publish("a/+").is_err() && globs::to_publish("a/#").is_err());
}

#[test]
fn what_can_not_be_said_is_listed_and_denied() {
    let mut users = parse(CREDENTIALS.as_bytes()).expect("valid");
    users[0].publish = "**/\"x\"\n".to_owned();
    let (list, notes) = access_list(Path::new("c.json"), &users);
    assert!(
        notes.len() == 1 && notes[0].contains("\"ann\"") && !notes[0].contains('\n'),
        "{notes:?}"
    );
    let acl = Acl::parse_file(Path::new("acl.toml"), &list).expect("our own format");
    let ann = Who {
        username: Some("ann"),
        client_id: "c",
    };
    assert_eq!(acl.write_verdict(&ann, "a/x"), crate::access::acl::Verdict::NotAllowed);
}

proptest! {
    #[test]
    fn no_file_is_too_strange(json in "(\\{|\\}|\\[|\"|:|,|salt|hash|ann|null|1|\\\\u|\\PC){0,40}") {
        if let Err(error) = parse(json.as_bytes()) {
            prop_assert!(!error.contains('\n'));
        }
    }

    #[test]
    fn no_glob_is_too_strange(glob in "(\\*|\\{|\\}|,|/|a|\\+|#|\\PC){0,30}", name in "\\PC{0,10}") {
        let mut users = parse(CREDENTIALS.as_bytes()).expect("valid");
        users[0].publish.clone_from(&glob);
        users[0].subscribe = glob;
        users[0].name = name;
        let (list, _) = access_list(Path::new("c.json"), &users);
        let read = Acl::parse_file(Path::new("acl.toml"), &list);
        prop_assert!(read.is_ok(), "{list} {:?}", read.err());
    }
}
