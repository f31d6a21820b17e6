use proptest::prelude::*;

use super::*;

const FILE: &str = "
# comment
topic read $SYS/broker/uptime
topic public/#

user ann
topic readwrite house/#
topic deny house/safe/#
topic read hello/+
topic write  with space/a
topic read

user bob
topic write house/+/set
pattern write status/%u/%c
pattern read inbox/%c/#
";

fn ann() -> Who<'static> {
    Who {
        username: Some("ann"),
        client_id: "c1",
    }
}

fn who<'a>(username: Option<&'a str>, client_id: &'a str) -> Who<'a> {
    Who { username, client_id }
}

#[test]
fn lines_hold_for_whom_they_are_meant() {
    let acl = Acl::parse(FILE).expect("valid");
    let nobody = who(None, "x");
    assert!(acl.allows_read(&nobody, "$SYS/broker/uptime") && acl.allows_write(&nobody, "public/a"));
    assert!(!acl.allows_write(&nobody, "$SYS/broker/uptime") && !acl.allows_read(&nobody, "house/a"));
    assert!(acl.allows_read(&ann(), "house") && acl.allows_write(&ann(), "house/a/b"));
    assert!(!acl.allows_read(&ann(), "house/safe") && !acl.allows_write(&ann(), "house/safe/a"));
    assert!(
        !acl.allows_read(&ann(), "public/a"),
        "the lines before the first user are for clients without a name"
    );
    assert!(acl.allows_write(&ann(), "with space/a") && !acl.allows_read(&ann(), "with space/a"));
    assert!(acl.allows_read(&ann(), "read") && acl.allows_write(&ann(), "read"));
    let bob = who(Some("bob"), "c2");
    assert!(acl.allows_write(&bob, "house/lamp/set") && !acl.allows_read(&bob, "house/lamp/set"));
    assert!(!acl.allows_write(&bob, "house/lamp/off"));
    assert!(
        !acl.allows_read(&who(Some("carl"), "c"), "house/a"),
        "unknown users may nothing"
    );
}

#[test]
fn patterns_hold_for_everybody() {
    let acl = Acl::parse(FILE).expect("valid");
    assert!(acl.allows_write(&ann(), "status/ann/c1") && acl.allows_read(&ann(), "inbox/c1/a/b"));
    assert!(!acl.allows_write(&ann(), "status/bob/c1") && !acl.allows_write(&ann(), "status/ann/c2"));
    assert!(acl.allows_read(&who(None, "x"), "inbox/x"), "it names no user");
    assert!(!acl.allows_write(&who(None, "x"), "status/u/x"));
}

/// A client chooses its name: it must not be a way to the topics of others.
#[test]
fn names_do_not_change_a_pattern() {
    let acl = Acl::parse("pattern read inbox/%c\npattern read of/%u/%c").expect("valid");
    for name in ["+", "#", "a/b", "a+"] {
        assert!(!acl.allows_read(&who(Some("ann"), name), "inbox/other"), "{name}");
        assert!(
            !acl.allows_read(&who(Some("ann"), name), &format!("inbox/{name}")),
            "{name}"
        );
        assert!(!acl.allows_read(&who(Some(name), "c"), "of/other/c"), "{name}");
    }
    assert!(acl.allows_read(&who(Some("ann"), "%u"), "of/ann/%u"));
    assert!(!acl.allows_read(&who(Some("ann"), "%u"), "of/ann/ann"));
}

#[test]
fn a_subscription_must_lie_within_what_may_be_read() {
    let acl = Acl::parse(FILE).expect("valid");
    for inside in ["hello/+", "hello/a", "inbox/c1/#", "inbox/c1/+/x"] {
        assert!(acl.allows_all(&ann(), inside), "{inside}");
    }
    for wider in [
        "hello/#",
        "#",
        "+/a",
        "house/#",
        "house/+",
        "house/safe/a",
        "hello",
        "inbox/+/#",
        "$SYS/#",
    ] {
        assert!(!acl.allows_all(&ann(), wider), "{wider}");
    }
    assert!(acl.allows_all(&ann(), "house/lamp/#"), "what is denied is elsewhere");
    let all = Acl::parse("topic read #").expect("valid");
    assert!(all.allows_all(&who(None, "x"), "#") && !all.allows_all(&who(None, "x"), "$SYS/#"));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    for (text, line) in [
        ("topic", 1),
        ("topic read a/#/b", 1),
        ("\nuser", 2),
        ("usr ann", 1),
        ("topic a\npattern write a+b", 2),
        ("pattern", 1),
    ] {
        let error = Acl::parse(text).expect_err(text);
        assert!(error.starts_with(&format!("line {line}: ")), "{text}: {error}");
    }
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "", "$s", "+"])
}

fn filter() -> impl Strategy<Value = String> {
    (prop::collection::vec(level(), 1..4), any::<bool>()).prop_map(|(mut levels, open)| {
        if open {
            levels.push("#");
        }
        levels.join("/")
    })
}

fn topic_name() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "", "$s"]);
    prop::collection::vec(level, 1..5).prop_map(|levels| levels.join("/"))
}

proptest! {
    /// What is contained matches no topic that the outer filter does not.
    #[test]
    fn containment_is_sound(outer in filter(), inner in filter(), topic in topic_name()) {
        if contains(&outer, &inner) && topic::matches(&inner, &topic) {
            prop_assert!(topic::matches(&outer, &topic), "{outer} {inner} {topic}");
        }
    }

    /// Filters that match the same topic overlap.
    #[test]
    fn overlap_is_sound(a in filter(), b in filter(), topic in topic_name()) {
        if topic::matches(&a, &topic) && topic::matches(&b, &topic) {
            prop_assert!(overlap(&a, &b), "{a} {b} {topic}");
        }
    }
}

proptest! {
    /// Whatever stands in a file, it is a list or an error of one line.
    #[test]
    fn no_text_is_too_strange(text in "(user|topic|pattern|read|deny|%u|#|\\+|/|\\PC|[ \t\r\n\0]){0,60}") {
        if let Err(error) = Acl::parse(&text) {
            prop_assert!(error.starts_with("line ") && !error.contains('\n'), "{error:?}");
        }
    }
}
