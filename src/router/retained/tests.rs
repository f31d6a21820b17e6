use super::*;

#[test]
fn a_filter_finds_its_topics() {
    let mut tree = RetainedTree::new();
    for topic in ["a", "a/b", "a-1", "a/b/c", "b/b", "$SYS/b"] {
        tree.insert(topic, ());
    }
    let mut seen = Vec::new();
    tree.for_each_match("+/b", |topic, ()| seen.push(topic.to_owned()));
    tree.for_each_match("a/#", |topic, ()| seen.push(topic.to_owned()));
    assert_eq!(seen, ["a/b", "b/b", "a", "a/b", "a/b/c"]);
}
