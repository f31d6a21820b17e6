use proptest::prelude::*;

use super::*;
use crate::access::acl::{Verdict, Who};

const FILE: &str = r#"
# Everybody
[[rule]]
subscribe = ["public/#", "$SYS/broker/uptime"]
publish = ["status/%u/%c"]

[[rule]]
users = ["ann", "bob"]
publish = ["house/%u/#"]
subscribe = ["house/#"]
deny-subscribe = [
    "house/safe/#",
]
deny-publish = ["house/ann/locked"]

[[rule]]
anonymous = true
users = ["guest"]
subscribe = ["lobby/+"]

[[rule]]
client-ids = ["sensor-1", "sensor-2"]
publish = ["sensors/%c"]

[[rule]]
users = ["carl"]
client-ids = ["desk"]
publish = ["orders"]
"#;

fn who<'a>(username: Option<&'a str>, client_id: &'a str) -> Who<'a> {
    Who { username, client_id }
}

#[test]
fn rules_hold_for_whom_they_are_meant() {
    let acl = Acl::parse_rules(FILE).expect("valid");
    let ann = who(Some("ann"), "c1");
    assert!(acl.allows_read(&ann, "house/lamp") && !acl.allows_read(&ann, "house/safe/code"));
    assert!(acl.allows_write(&ann, "house/ann/lamp") && !acl.allows_write(&ann, "house/bob/lamp"));
    assert!(!acl.allows_write(&ann, "house/ann/locked") && acl.allows_read(&ann, "house/ann/locked"));
    assert!(acl.allows_write(&ann, "status/ann/c1") && !acl.allows_write(&ann, "status/ann/c2"));
    let nobody = who(None, "x");
    assert!(acl.allows_read(&nobody, "public/a") && !acl.allows_write(&nobody, "public/a"));
    assert!(acl.allows_read(&nobody, "lobby/1") && acl.allows_read(&who(Some("guest"), "x"), "lobby/1"));
    assert!(!acl.allows_read(&ann, "lobby/1") && !acl.allows_write(&nobody, "status//x"));
    let sensor = who(Some("anybody"), "sensor-2");
    assert!(acl.allows_write(&sensor, "sensors/sensor-2") && !acl.allows_write(&sensor, "sensors/sensor-1"));
    assert!(!acl.allows_write(&who(None, "sensor-3"), "sensors/sensor-3"));
    assert!(acl.allows_write(&who(Some("carl"), "desk"), "orders"));
    assert!(
        !acl.allows_write(&who(Some("carl"), "phone"), "orders") && !acl.allows_write(&who(None, "desk"), "orders")
    );
}

#[test]
fn a_decision_names_its_line() {
    let acl = Acl::parse_rules(FILE).expect("valid");
    let ann = who(Some("ann"), "c1");
    assert_eq!(acl.write_verdict(&ann, "house/ann/a"), Verdict::Allowed(9));
    assert_eq!(acl.write_verdict(&ann, "house/ann/locked"), Verdict::Denied(14));
    assert_eq!(acl.write_verdict(&ann, "garden"), Verdict::NotAllowed);
    assert_eq!(acl.subscribe_verdict(&ann, "house/lamp/+"), Verdict::Allowed(10));
    assert_eq!(acl.subscribe_verdict(&ann, "house/+/code"), Verdict::Denied(12));
    assert_eq!(acl.subscribe_verdict(&ann, "#"), Verdict::Denied(12));
    assert_eq!(acl.subscribe_verdict(&who(None, "x"), "public/#"), Verdict::Allowed(4));
}

/// A name that can't be put into a filter opens nothing, and closes what is denied.
#[test]
fn names_do_not_change_a_rule() {
    let acl =
        Acl::parse_rules("[[rule]]\npublish = [\"a/#\", \"of/%u\"]\ndeny-publish = [\"a/%u/secret\"]").expect("valid");
    for name in ["+", "#", "x/y"] {
        let who = who(Some(name), "c");
        assert!(
            !acl.allows_write(&who, "of/ann") && !acl.allows_write(&who, "a/x/y/secret"),
            "{name}"
        );
    }
    assert!(acl.allows_write(&who(Some("ann"), "c"), "a/bob/secret"));
    assert!(!acl.allows_write(&who(Some("ann"), "c"), "a/ann/secret"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    for (text, error) in [
        (
            "[[rule]]\npublsh = [\"a\"]",
            "line 2: there is no setting \"publsh\"; is it \"publish\" that you mean?",
        ),
        (
            "[[rule]]\nclient_ids = [\"a\"]",
            "line 2: there is no setting \"client_ids\"; is it \"client-ids\" that you mean?",
        ),
        (
            "[[rules]]\npublish = []",
            "line 1: there is no setting \"rules\"; is it \"rule\" that you mean?",
        ),
        ("[rule]\npublish = []", "line 1: rules are tables"),
        ("rule = [1]", "line 1: a rule is a table"),
        ("[[rule]]\npublish = \"a\"", "line 2: \"publish\" is a list of texts"),
        (
            "[[rule]]\npublish = [\"a\",\n1]",
            "line 3: \"publish\" is a list of texts",
        ),
        ("[[rule]]\npublish = [\n\"a\",\n\"a/#/b\",\n]", "line 4: \"a/#/b\": "),
        ("[[rule]]\nsubscribe = [\"$share/g/a\"]", "line 2: "),
        ("[[rule]]\nsubscribe = [\"\"]", "line 2: "),
        ("[[rule]]\nusers = []\npublish = [\"a\"]", "line 2: \"users\" is empty"),
        (
            "[[rule]]\nanonymous = false\npublish = [\"a\"]",
            "line 2: \"anonymous\" is true",
        ),
        ("\n[[rule]]\nusers = [\"a\"]", "line 2: a rule says what"),
        ("[[rule]]\npublish = [\"a\"", "line 2: "),
        ("[[rule]]\npublish = [\"a\"]\npublish = [\"b\"]", "line 3: "),
    ] {
        let found = Acl::parse_rules(text).expect_err(text);
        assert!(found.starts_with(error) && !found.contains('\n'), "{text}: {found}");
    }
}

#[test]
fn a_list_in_toml_is_recognised() {
    let wide = |path: &str, text: &str| Acl::parse_file(path.as_ref(), text).map(|acl| acl.wide_subscriptions());
    assert_eq!(wide("a.toml", "# nothing"), Ok(WideSubscriptions::Deny));
    assert_eq!(wide("a", "# x\n\n [[rule]]\npublish = []"), Ok(WideSubscriptions::Deny));
    assert_eq!(wide("a.acl", "topic a"), Ok(WideSubscriptions::Filter));
    assert!(wide("a.toml", "topic a").is_err());
}

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "[[rule]]",
        "\n",
        "users",
        "publish",
        "deny-subscribe",
        "client-ids",
        "anonymous",
        "=",
        "[",
        "]",
        "\"a/#\"",
        "\"%u\"",
        ",",
        "true",
        "{",
        "}",
        "'",
        "\"",
        "#",
        " ",
        "\u{0}",
        "é",
        "1979-05-27",
        "0x",
        "\"\"\"",
        "\\",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    /// Whatever stands in a file, it is a list or an error of one line.
    #[test]
    fn no_text_is_too_strange(text in words()) {
        if let Err(error) = Acl::parse_rules(&text) {
            prop_assert!(error.starts_with("line ") && !error.contains('\n'), "{error:?}");
        }
    }

    /// A file that was half written is refused, or ends with a whole line.
    #[test]
    fn half_a_file_allows_nothing_more(end in 0..FILE.len()) {
        let whole = Acl::parse_rules(FILE).expect("valid");
        if let Ok(half) = Acl::parse_rules(&FILE[..end]) {
            for topic in ["house/ann/a", "orders", "sensors/c1", "status/ann/c1"] {
                let who = who(Some("ann"), "c1");
                prop_assert!(whole.allows_write(&who, topic) || !half.allows_write(&who, topic), "{topic}");
            }
        }
    }
}
