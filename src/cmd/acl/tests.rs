use std::path::Path;

use super::*;

fn ask(path: &str, text: &str, user: Option<&str>, what: What, topic: &str) -> Result<String, String> {
    let acl = Acl::parse_file(Path::new(path), text).expect("valid");
    let check = Check {
        file: path.into(),
        what,
        topic: topic.to_owned(),
        user: user.map(str::to_owned),
        client_id: "c1".to_owned(),
    };
    answer(&check, &acl, text)
}

#[test]
fn the_answer_names_the_line() {
    let text =
        "topic read public/#\nuser ann\n  topic readwrite house/#\ntopic deny house/safe/#\npattern write to/%u/%c\n";
    let ask = |user, what, topic| ask("acl", text, user, what, topic);
    let ann = Some("ann");
    assert_eq!(
        ask(ann, What::Publish, "house/a"),
        Ok("allowed by line 3: topic readwrite house/#".to_owned())
    );
    assert_eq!(
        ask(ann, What::Publish, "house/safe/a"),
        Err("denied by line 4: topic deny house/safe/#".to_owned())
    );
    assert_eq!(
        ask(ann, What::Publish, "to/ann/c1"),
        Ok("allowed by line 5: pattern write to/%u/%c".to_owned())
    );
    assert_eq!(
        ask(None, What::Publish, "house/a"),
        Err("denied: no line allows it".to_owned())
    );
    assert_eq!(
        ask(None, What::Subscribe, "$share/g/public/+"),
        Ok("allowed by line 1: topic read public/#".to_owned())
    );
    let wide = ask(ann, What::Subscribe, "house/#").expect("granted");
    assert!(wide.starts_with("granted, and each message is checked"), "{wide}");
    assert!(ask(ann, What::Publish, "a/+").is_err() && ask(ann, What::Subscribe, "a/#/b").is_err());
    assert!(ask(ann, What::Publish, "$SYS/a").is_err());
}

#[test]
fn rules_in_toml_refuse_what_is_wider() {
    let text = "[[rule]]\nsubscribe = [\"a/+\"]\n";
    assert_eq!(
        ask("acl.toml", text, None, What::Subscribe, "a/#"),
        Err("denied: no line allows it".to_owned())
    );
    assert_eq!(
        ask("acl.toml", text, None, What::Subscribe, "a/b"),
        Ok("allowed by line 2: subscribe = [\"a/+\"]".to_owned())
    );
}
