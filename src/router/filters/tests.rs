use super::*;

#[test]
fn nothing_is_left_behind() {
    let mut index = FilterIndex::new();
    for filter in ["a/+/b", "a/b", "#", "a/#", "$SYS/#"] {
        *index.entry(filter) = filter.to_owned();
    }
    let mut seen = Vec::new();
    index.for_each_match("a/b", |filter| seen.push(filter.clone()));
    seen.sort();
    assert_eq!(seen, ["#", "a/#", "a/b"]);
    for filter in ["a/+/b", "a/b", "#", "a/#", "$SYS/#"] {
        assert_eq!(index.remove(filter).as_deref(), Some(filter));
    }
    assert_eq!(index.node_count(), 0);
}
