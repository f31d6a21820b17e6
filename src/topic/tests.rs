use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

#[test]
fn names_that_a_client_may_publish_to() {
    let longest = "x".repeat(MAX_LENGTH);
    for name in [
        "a",
        "/",
        "//",
        "a//b",
        " ",
        "$SYS/x",
        "räume/küche",
        "\u{FEFF}a",
        "a\u{1}b",
        "日本/東京",
        &longest,
    ] {
        assert_eq!(validate_name(name), Ok(name));
        assert_eq!(validate_name(name.as_bytes()), Ok(name));
        assert_eq!(check_name(name), Ok(()));
    }
}

#[test]
fn names_that_are_refused() {
    let too_long = "x".repeat(MAX_LENGTH + 1);
    let cases: [(&[u8], TopicError); 10] = [
        (b"", TopicError::Empty),
        (too_long.as_bytes(), TopicError::TooLong),
        (b"a\0b", TopicError::Nul),
        (b"+\0", TopicError::Nul),
        (b"a/+", TopicError::WildcardInName),
        (b"a/b#c", TopicError::WildcardInName),
        (b"a\xFF", TopicError::NotUtf8),
        (b"\xC0\x80", TopicError::NotUtf8),
        (b"\xED\xA0\x80", TopicError::NotUtf8),
        (b"\xF4\x90\x80\x80", TopicError::NotUtf8),
    ];
    for (name, error) in cases {
        assert_eq!(validate_name(name), Err(error), "{name:?}");
        if let Ok(text) = std::str::from_utf8(name) {
            assert_eq!(check_name(text), Err(error), "{name:?}");
        }
    }
}

#[test]
fn a_wildcard_is_refused_wherever_it_is_in_a_name() {
    for length in 1..70 {
        for place in 0..length {
            let mut name = vec![b'a'; length];
            name[place] = b'#';
            assert_eq!(validate_name(&name), Err(TopicError::WildcardInName));
        }
    }
}

#[test]
fn filters_that_are_accepted() {
    let cases = [
        ("a/b", false, 2),
        ("#", true, 1),
        ("+", true, 1),
        ("/", false, 2),
        ("+/+", true, 2),
        ("/+", true, 2),
        ("sport/tennis/player1/#", true, 4),
        ("+/tennis/#", true, 3),
        ("sport/+/player1", true, 3),
        ("$SYS/#", true, 2),
        ("$share", false, 1),
        ("$shared/a/#", true, 3),
        ("$SHARE/a", false, 2),
    ];
    for (text, wildcard, levels) in cases {
        let filter = TopicFilter::parse(text).unwrap();
        assert_eq!(
            (filter.as_str(), filter.filter(), filter.share_name()),
            (text, text, None)
        );
        assert_eq!((filter.has_wildcard(), filter.levels()), (wildcard, levels), "{text}");
    }
}

#[test]
fn shared_filters_have_a_name_and_a_filter() {
    let cases = [
        ("$share/group/+/x", "group", "+/x", true, 2),
        ("$share/g//", "g", "/", false, 2),
        ("$share/g//a", "g", "/a", false, 2),
        ("$share/größe/#", "größe", "#", true, 1),
        ("$share/g/$share/h/x", "g", "$share/h/x", false, 3),
    ];
    for (text, share_name, part, wildcard, levels) in cases {
        let filter = TopicFilter::parse(text).unwrap();
        assert_eq!(
            (filter.as_str(), filter.filter(), filter.share_name()),
            (text, part, Some(share_name))
        );
        assert_eq!((filter.has_wildcard(), filter.levels()), (wildcard, levels), "{text}");
    }
}

#[test]
fn filters_that_are_refused() {
    let too_long = "x".repeat(MAX_LENGTH + 1);
    let cases = [
        ("", TopicError::Empty),
        (&too_long, TopicError::TooLong),
        ("a\0", TopicError::Nul),
        ("sport/tennis#", TopicError::MisplacedMultiLevelWildcard),
        ("sport/tennis/#/ranking", TopicError::MisplacedMultiLevelWildcard),
        ("#/", TopicError::MisplacedMultiLevelWildcard),
        ("##", TopicError::MisplacedMultiLevelWildcard),
        ("#a", TopicError::MisplacedMultiLevelWildcard),
        ("+#", TopicError::MisplacedMultiLevelWildcard),
        ("sport+", TopicError::MisplacedSingleLevelWildcard),
        ("a+/b", TopicError::MisplacedSingleLevelWildcard),
        ("++", TopicError::MisplacedSingleLevelWildcard),
        ("ü+", TopicError::MisplacedSingleLevelWildcard),
        ("$share/", TopicError::EmptyShareName),
        ("$share//a", TopicError::EmptyShareName),
        ("$share/+/a", TopicError::WildcardInShareName),
        ("$share/a#/a", TopicError::WildcardInShareName),
        ("$share/a", TopicError::NoFilterAfterShareName),
        ("$share/a/", TopicError::NoFilterAfterShareName),
        ("$share/a/b+", TopicError::MisplacedSingleLevelWildcard),
    ];
    for (filter, error) in cases {
        assert_eq!(TopicFilter::parse(filter).unwrap_err(), error, "{filter}");
    }
}

#[test]
fn the_longest_filters_are_taken_apart_right() {
    let slashes = TopicFilter::parse(&"/".repeat(MAX_LENGTH)).unwrap();
    assert_eq!(slashes.levels(), MAX_LENGTH + 1);
    let text = format!("$share/{}/#", "g".repeat(MAX_LENGTH - 9));
    let shared = TopicFilter::parse(&text).unwrap();
    assert_eq!((text.len(), shared.filter()), (MAX_LENGTH, "#"));
    assert_eq!(shared.share_name().map(str::len), Some(MAX_LENGTH - 9));
}

#[test]
fn a_filter_is_its_text() {
    let filter = TopicFilter::parse("$share/g/a/+").unwrap();
    assert_eq!(filter.to_string(), "$share/g/a/+");
    assert_eq!(format!("{filter:?}"), "TopicFilter(\"$share/g/a/+\")");
    assert_eq!(HashMap::from([(filter.clone(), 1)]).get("$share/g/a/+"), Some(&1));
    assert_eq!(
        HashSet::from([filter.clone(), filter.clone(), "a".parse().unwrap()]).len(),
        2
    );
    assert!(size_of::<TopicFilter>() <= 24);
}

#[test]
fn an_error_says_what_is_wrong() {
    let error = TopicFilter::parse("a#").unwrap_err();
    assert_eq!(error.to_string(), "'#' must be the whole last level of a topic filter");
    assert!(!error.is_malformed());
    assert!(validate_name(b"\xFF").unwrap_err().is_malformed());
}

#[test]
fn topics_match_as_the_specification_says() {
    let cases = [
        // 4.7.1.2
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/tennis/player1/#", "sport/tennis/player10", false),
        ("sport/#", "sport", true),
        ("sport/#", "sport/", true),
        ("#", "a/b", true),
        ("#", "/", true),
        // 4.7.1.3
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "a/tennis", true),
        ("a/+/#", "a", false),
        ("+/#", "a", true),
        // 4.7.2
        ("#", "$SYS/x", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("+", "$SYS", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/#", "$SYS", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("+/$x", "a/$x", true),
        ("a/#", "a/$x", true),
        ("$/#", "$/a", true),
        ("#", "$", false),
        // 4.7.3
        ("ACCOUNTS", "Accounts", false),
        ("a", "/a", false),
        ("a/", "a", false),
        ("a//b", "a/b", false),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("é", "e\u{301}", false),
        ("+/日本", "ü/日本", true),
        (" a", "a", false),
    ];
    for (filter, topic, expected) in cases {
        assert_eq!(matches(filter, topic), expected, "{filter} and {topic}");
        assert_eq!(
            TopicFilter::parse(filter).unwrap().matches(topic),
            expected,
            "{filter} and {topic}"
        );
    }
}

/// The rules of section 4.7 said another way, to check [`matches`] with.
fn matches_by_recursion(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([first, filter @ ..], [level, topic @ ..]) => {
            (first == level || *first == "+") && matches_by_recursion(filter, topic)
        }
        _ => false,
    }
}

fn text_of(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(levels), 1..6)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |text| !text.is_empty())
}

proptest! {
    #[test]
    fn matching_agrees_with_the_model(
        filter in text_of(&["", "a", "b", "$a", "ü", "+"]),
        multi in any::<bool>(),
        topic in text_of(&["", "a", "b", "$a", "ü"]),
    ) {
        let filter = if multi { filter + "/#" } else { filter };
        let (wanted, levels): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
        let hidden = topic.starts_with('$') && wanted[0] == "+";
        prop_assert_eq!(matches(&filter, &topic), !hidden && matches_by_recursion(&wanted, &levels));
    }

    #[test]
    fn a_name_is_a_filter_that_matches_itself_only(name in text_of(&["", "a", "b", "$a", "ü"]), other in "[ab/]{1,5}") {
        prop_assert_eq!(validate_name(&name), Ok(&*name));
        prop_assert!(!TopicFilter::parse(&name).unwrap().has_wildcard());
        prop_assert!(matches(&name, &name));
        prop_assert_eq!(matches(&name, &other), name == other);
    }

    #[test]
    fn splitting_is_what_str_split_does(text in "[aü/]{0,9}") {
        prop_assert!(split(&text).eq(text.split('/')));
        prop_assert_eq!(levels(&text), text.split('/').count());
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let allowed = |text: &&str| !text.is_empty() && !text.contains(['\0', '+', '#']);
        prop_assert_eq!(validate_name(&bytes).ok(), std::str::from_utf8(&bytes).ok().filter(allowed));
    }

    #[test]
    fn any_text_is_a_filter_or_is_not(text in "(\\$share/)?[a/+#\\x00ü]{0,6}") {
        if let Ok(filter) = TopicFilter::parse(&text) {
            let share = filter.share_name().map_or(String::new(), |name| format!("$share/{name}/"));
            prop_assert_eq!(format!("{share}{}", filter.filter()), text);
            prop_assert_eq!(filter.levels(), levels(filter.filter()));
            prop_assert_eq!(filter.has_wildcard(), filter.filter().split('/').any(|level| level == "+" || level == "#"));
        }
    }
}

/// Every byte at every place in texts of many lengths, between all kinds of neighbours.
#[test]
fn unwanted_bytes_are_found_wherever_they_are() {
    for neighbour in [b'a', 0x01, 0x7F, 0x80, 0xFF, b'*', b'$', b'"', b','] {
        for length in 0..=40 {
            let mut bytes = vec![neighbour; length];
            assert!(!has_unwanted(&bytes));
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    bytes[at] = byte;
                    assert_eq!(
                        has_unwanted(&bytes),
                        matches!(byte, 0 | b'+' | b'#'),
                        "{byte:#04X} at {at}"
                    );
                }
                bytes[at] = neighbour;
            }
        }
    }
}
