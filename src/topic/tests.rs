use super::*;

#[test]
fn a_shared_filter_has_two_parts() {
    let filter = TopicFilter::parse("$share/group/+/x").unwrap();
    assert_eq!(
        (filter.share_name(), filter.filter(), filter.levels()),
        (Some("group"), "+/x", 2)
    );
}
