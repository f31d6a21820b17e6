//! Rights in JSON, as tokens and HTTP answers carry them:
//!
//! ```json
//! {"pub": ["status/%c"], "sub": ["inbox/${username}/#"], "all": ["room/1"]}
//! [{"permission": "allow", "action": "publish", "topic": "status/%c"}, {"permission": "deny", "action": "all", "topic": "a"}]
//! ```
//!
//! Both forms are those of EMQX, but a `deny` outweighs every `allow`, whatever their order, as in access lists. What
//! makes no sense is an error: a rule that is left out could be a `deny`.

use serde_json::{Map, Value};

use super::acl::{Who, substitute};
use crate::identity::Rights;
use crate::topic::TopicFilter;

/// Rules that are read.
const MOST: usize = 1000;

/// The rights that the rules give to the client.
pub(super) fn rights(rules: &Value, who: &Who<'_>) -> Result<Rights, &'static str> {
    let mut rights = Rights::default();
    match rules {
        Value::Object(lists) => add_lists(&mut rights, lists, who)?,
        Value::Array(rules) if rules.len() > MOST => return Err("more rules than are read"),
        Value::Array(rules) => rules.iter().try_for_each(|rule| add_rule(&mut rights, rule, who))?,
        _ => return Err("the rules are neither lists of topics nor a list of rules"),
    }
    Ok(rights)
}

fn add_lists(rights: &mut Rights, lists: &Map<String, Value>, who: &Who<'_>) -> Result<(), &'static str> {
    for (name, topics) in lists {
        let action = match &**name {
            "pub" => "publish",
            "sub" => "subscribe",
            "all" => "all",
            _ => return Err("lists of topics are pub, sub and all"),
        };
        let topics = topics.as_array().ok_or("pub, sub and all are lists of topics")?;
        if topics.len() > MOST {
            return Err("more rules than are read");
        }
        topics
            .iter()
            .try_for_each(|topic| add(rights, true, action, topic, who))?;
    }
    Ok(())
}

fn add_rule(rights: &mut Rights, rule: &Value, who: &Who<'_>) -> Result<(), &'static str> {
    let rule = rule.as_object().ok_or("a rule is an object")?;
    // Conditions that are not understood (of QoS, of retained messages) would make the rule narrower.
    if rule
        .keys()
        .any(|key| !["permission", "action", "topic"].contains(&&**key))
    {
        return Err("a rule has permission, action and topic");
    }
    let text = |key| rule.get(key).and_then(Value::as_str);
    let allowed = match text("permission") {
        Some("allow") => true,
        Some("deny") => false,
        _ => return Err("the permission of a rule is allow or deny"),
    };
    let action = text("action").ok_or("a rule has permission, action and topic")?;
    let topic = rule.get("topic").ok_or("a rule has permission, action and topic")?;
    add(rights, allowed, action, topic, who)
}

fn add(rights: &mut Rights, allowed: bool, action: &str, topic: &Value, who: &Who<'_>) -> Result<(), &'static str> {
    let (read, write) = match action {
        "publish" => (false, true),
        "subscribe" => (true, false),
        "all" => (true, true),
        _ => return Err("the action of a rule is publish, subscribe or all"),
    };
    let pattern = topic.as_str().ok_or("a topic is a string")?;
    if pattern.starts_with("eq ") {
        return Err("eq is not known");
    }
    let pattern = pattern.replace("${username}", "%u").replace("${clientid}", "%c");
    let Some(filter) = substitute(&pattern, who) else {
        // A name that is not fit for a topic opens none, and closes all that it may.
        return if allowed {
            Ok(())
        } else {
            Err("a deny with a name that is not fit for a topic")
        };
    };
    TopicFilter::parse(&filter).map_err(|_| "a topic is not valid")?;
    let lists = match allowed {
        true => [(read, &mut rights.read), (write, &mut rights.write)],
        false => [(read, &mut rights.never_read), (write, &mut rights.never_write)],
    };
    for (_, list) in lists.into_iter().filter(|(is_meant, _)| *is_meant) {
        list.push(filter.as_str().into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Who<'static> = Who {
        username: Some("ann"),
        client_id: "c1",
    };

    fn read(json: &str) -> Result<Rights, &'static str> {
        rights(&serde_json::from_str(json).expect("JSON"), &ANN)
    }

    #[test]
    fn lists_of_topics() {
        let rights = read(r#"{"pub": ["s/%c"], "sub": ["in/${username}/#"], "all": ["room/+", "$SYS/#"]}"#);
        let rights = rights.expect("valid");
        assert!(rights.allow_write("s/c1") && !rights.allow_write("s/c2") && !rights.allow_read("s/c1"));
        assert!(rights.allow_read("in/ann") && !rights.allow_write("in/ann"));
        assert!(rights.allow_read("room/1") && rights.allow_write("room/1"));
        assert!(rights.allow_all("in/ann/+") && !rights.allow_all("in/#") && rights.allow_all("$SYS/#"));
        let nothing = read("{}").expect("valid");
        assert!(!nothing.allow_read("a") && !nothing.allow_write("a") && !nothing.allow_all("a"));
    }

    #[test]
    fn rules() {
        let rights = read(
            r##"[{"permission": "allow", "action": "all", "topic": "#"},
                 {"permission": "deny", "action": "publish", "topic": "safe/${clientid}"},
                 {"permission": "deny", "action": "subscribe", "topic": "secret/#"}]"##,
        );
        let rights = rights.expect("valid");
        assert!(rights.allow_write("a") && !rights.allow_write("safe/c1") && rights.allow_read("safe/c1"));
        assert!(!rights.allow_read("secret") && rights.allow_write("secret"));
        assert!(!rights.allow_all("#") && rights.allow_all("a/#"));
    }

    /// A client chooses its identifier.
    #[test]
    fn names_open_nothing() {
        let rules = |json: &str, client_id| {
            let who = Who {
                username: None,
                client_id,
            };
            rights(&serde_json::from_str(json).expect("JSON"), &who)
        };
        for client_id in ["+", "#", "a/b"] {
            let rights = rules(r#"{"all": ["to/%c", "of/%u"]}"#, client_id).expect("valid");
            assert_eq!(rights, Rights::default(), "{client_id}");
            rules(
                r#"[{"permission": "deny", "action": "all", "topic": "to/%c"}]"#,
                client_id,
            )
            .expect_err("not fit");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for json in [
            "1",
            "null",
            r#"{"publish": []}"#,
            r#"{"pub": "a"}"#,
            r#"{"pub": [1]}"#,
            r#"{"pub": ["a/#/b"]}"#,
            r#"{"pub": [""]}"#,
            r#"{"pub": ["eq a"]}"#,
            "[1]",
            r#"[{"permission": "allow", "action": "all"}]"#,
            r#"[{"permission": "Allow", "action": "all", "topic": "a"}]"#,
            r#"[{"permission": "allow", "action": "read", "topic": "a"}]"#,
            r#"[{"permission": "deny", "action": "all", "topic": "a", "qos": [1]}]"#,
        ] {
            read(json).expect_err(json);
        }
        let many = format!("{{\"pub\": [{}\"a\"]}}", "\"a\",".repeat(1000));
        read(&many).expect_err("many");
    }
}
