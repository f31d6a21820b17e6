use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::topic::matches;

fn index_of(filters: &[&str]) -> FilterIndex<String> {
    let mut index = FilterIndex::new();
    for &filter in filters {
        *index.entry(filter) = filter.to_owned();
    }
    index
}

fn found<'a>(index: &'a FilterIndex<String>, topic: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    index.for_each_match(topic, |filter| found.push(filter.as_str()));
    found.sort_unstable();
    found
}

/// What is left must be what a new index has.
fn assert_empty<V>(index: &FilterIndex<V>) {
    assert_eq!((index.len(), index.is_empty(), index.node_count()), (0, true, 0));
    index.wildcard.check();
}

#[test]
fn filters_are_found_by_the_topics_of_the_specification() {
    let index = index_of(&[
        "sport/tennis/player1/#",
        "sport/#",
        "#",
        "+/+",
        "/+",
        "+",
        "sport/+",
        "+/tennis/#",
    ]);
    assert_eq!(
        found(&index, "sport/tennis/player1"),
        ["#", "+/tennis/#", "sport/#", "sport/tennis/player1/#"]
    );
    assert_eq!(found(&index, "sport"), ["#", "+", "sport/#"]);
    assert_eq!(found(&index, "sport/"), ["#", "+/+", "sport/#", "sport/+"]);
    assert_eq!(found(&index, "/finance"), ["#", "+/+", "/+"]);
    assert_eq!(found(&index, "tennis"), ["#", "+"]);
    assert_eq!(found(&index, "a/tennis"), ["#", "+/+", "+/tennis/#"]);
}

#[test]
fn topics_that_start_with_a_dollar_are_for_filters_that_name_it() {
    let index = index_of(&["#", "+", "+/+", "+/x", "$SYS/#", "$SYS/+", "$SYS/x", "$SYS", "$/+"]);
    assert_eq!(found(&index, "$SYS/x"), ["$SYS/#", "$SYS/+", "$SYS/x"]);
    assert_eq!(found(&index, "$SYS"), ["$SYS", "$SYS/#"]);
    assert_eq!(found(&index, "$/"), ["$/+"]);
    assert_eq!(found(&index, "$"), [""; 0]);
    assert_eq!(found(&index, "a/$SYS"), ["#", "+/+"]);
}

#[test]
fn levels_are_compared_byte_by_byte() {
    let index = index_of(&["+/é", "+/e\u{301}", "+/日本", "a//+", "A/+", "+//", "+/ "]);
    assert_eq!(found(&index, "x/é"), ["+/é"]);
    assert_eq!(found(&index, "x/e\u{301}"), ["+/e\u{301}"]);
    assert_eq!(found(&index, "日本/日本"), ["+/日本"]);
    assert_eq!(found(&index, "a//"), ["+//", "a//+"]);
    assert_eq!(found(&index, "a/ "), ["+/ "]);
    assert_eq!(found(&index, "a/x"), [""; 0]);
}

#[test]
fn a_value_is_kept_until_its_filter_is_removed() {
    let mut index = FilterIndex::<u32>::default();
    for filter in ["a/+", "a/b", "#", "a/#", "+"] {
        *index.entry(filter) += 1;
        *index.entry(filter) += 1;
        assert_eq!(index.get(filter), Some(&2));
        *index.get_mut(filter).unwrap() = 3;
    }
    assert_eq!(index.len(), 5);
    for missing in ["a", "b/+", "a/+/+", "a/+/#", "+/#", "b"] {
        assert_eq!(index.get(missing), None);
        assert_eq!(index.get_mut(missing), None);
        assert_eq!(index.remove(missing), None);
    }
    for filter in ["a/+", "a/b", "#", "a/#", "+"] {
        assert_eq!(
            (index.remove(filter), index.remove(filter), index.get(filter)),
            (Some(3), None, None)
        );
    }
    assert_empty(&index);
}

#[test]
fn nodes_go_only_when_nothing_uses_them() {
    let mut index = index_of(&["a/+/b", "a/+/b/c", "a/+", "a/#"]);
    assert_eq!(index.node_count(), 4);
    index.remove("a/+/b");
    index.remove("a/+");
    assert_eq!(index.node_count(), 4);
    index.remove("a/+/b/c");
    assert_eq!(index.node_count(), 1);
    assert_eq!(found(&index, "a"), ["a/#"]);
    index.remove("a/#");
    assert_empty(&index);
}

#[test]
fn filters_that_are_not_valid_do_no_harm() {
    let mut index = index_of(&["", "a+", "#/a", "a#", "+/", "//#", "##", "a/#/#"]);
    found(&index, "");
    found(&index, "a/#/b");
    for filter in ["", "a+", "#/a", "a#", "+/", "//#", "##", "a/#/#"] {
        assert_eq!(index.remove(filter).as_deref(), Some(filter));
    }
    assert_empty(&index);
}

/// A thread with a small stack, where recursion over 65,536 levels would not end well.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn the_deepest_topics_and_filters_need_no_stack() {
    on_a_small_stack(|| {
        let topic = "/".repeat(65_535);
        let single = vec!["+"; 32_768].join("/");
        let all_single = single.clone() + "/#";
        let deep = "/".repeat(65_534) + "#";
        let mut index = index_of(&["#", &single, &all_single, &deep, &("/".repeat(65_533) + "+")]);
        assert_eq!(found(&index, &topic), ["#", &*all_single, &*deep]);
        assert_eq!(found(&index, &topic[..32_767]), ["#", &*single, &*all_single]);
        assert_eq!(index.remove(&deep), Some(deep));
        assert_eq!(index.node_count(), 32_768 + 65_534);
        drop(index);
    });
}

#[test]
fn a_branching_walk_visits_no_node_twice() {
    // Every combination of `a` and `+` in 13 levels: a topic of `a` leads to all 2^14 nodes, and a walk that visits
    // them by several paths, or goes on where no filter does, would not come back.
    let mut index = FilterIndex::<usize>::new();
    for bits in 1..1 << 13 {
        let filter: Vec<_> = (0..13)
            .map(|level| if bits >> level & 1 == 1 { "+" } else { "a" })
            .collect();
        *index.entry(&filter.join("/")) = bits;
    }
    let mut seen = vec![0; 1 << 13];
    index.for_each_match(&["a"; 13].join("/"), |&bits| seen[bits] += 1);
    assert!(seen[1..].iter().all(|&times| times == 1));
    let started = Instant::now();
    index.for_each_match(&"a/".repeat(32_767), |_| panic!("no filter is that deep"));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn memory_goes_back_while_others_stay() {
    let mut index = FilterIndex::<usize>::new();
    let filters: Vec<_> = (0..20_000)
        .flat_map(|n| [format!("device/{n}/+/x"), format!("device/{n}/#")])
        .collect();
    for (n, filter) in filters.iter().enumerate() {
        *index.entry(filter) = n;
    }
    assert_eq!(index.node_count(), 1 + 3 * 20_000);
    let full = index.wildcard.capacity();
    let (stay, go): (Vec<_>, Vec<_>) = filters.iter().enumerate().partition(|(n, _)| n % 100 == 7);
    for (n, filter) in go {
        assert_eq!(index.remove(filter), Some(n));
    }
    index.wildcard.check();
    assert!(
        index.wildcard.capacity() < full / 20,
        "{} of {full}",
        index.wildcard.capacity()
    );
    for (n, filter) in stay {
        let mut seen = None;
        index.for_each_match(&filter.replace('+', "y").replace('#', "z"), |n| seen = Some(*n));
        assert_eq!(seen, Some(n));
        assert_eq!(index.remove(filter), Some(n));
    }
    assert_empty(&index);
}

#[test]
fn a_large_trie_is_not_renumbered_for_a_few_levels() {
    let mut index = FilterIndex::<()>::new();
    (0..10_000).for_each(|n| *index.entry(&n.to_string().split("").collect::<Vec<_>>().join("/+/")) = ());
    let levels = index.wildcard.level_places();
    for _ in 0..3 {
        (0..100).for_each(|n| *index.entry(&format!("+/level-{n}")) = ());
        (0..100).for_each(|n| _ = index.remove(&format!("+/level-{n}")));
    }
    assert_eq!(index.wildcard.level_places(), levels + 100);
    index.wildcard.check();
}

#[test]
fn literal_filters_give_memory_back_too() {
    let mut index = FilterIndex::<()>::new();
    (0..10_000).for_each(|n| *index.entry(&n.to_string()) = ());
    (0..10_000).for_each(|n| _ = index.remove(&n.to_string()));
    assert!(index.literal.capacity() <= 128);
    assert_empty(&index);
}

/// Few levels, so that filters share nodes and topics match.
fn filter() -> impl Strategy<Value = String> {
    let levels = prop::collection::vec(prop::sample::select(&["", "a", "b", "$a", "ü", "+", "+"][..]), 0..5);
    (levels, any::<bool>())
        .prop_map(|(mut levels, multi)| {
            levels.extend(multi.then_some("#"));
            levels.join("/")
        })
        .prop_filter("not empty", |filter| !filter.is_empty())
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&["", "a", "b", "$a", "ü", "x"][..]), 1..6).prop_map(|l| l.join("/"))
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(String),
    Unsubscribe(prop::sample::Index),
    Publish(String),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => filter().prop_map(Step::Subscribe),
        2 => any::<prop::sample::Index>().prop_map(Step::Unsubscribe),
        2 => topic().prop_map(Step::Publish),
    ]
}

fn check_step(index: &mut FilterIndex<(String, u32)>, model: &mut BTreeMap<String, u32>, step: &Step) {
    match step {
        Step::Subscribe(filter) => {
            *model.entry(filter.clone()).or_default() += 1;
            let value = index.entry(filter);
            value.0.clone_from(filter);
            value.1 += 1;
        }
        Step::Unsubscribe(which) if !model.is_empty() => {
            let filter = model.keys().nth(which.index(model.len())).unwrap().clone();
            let count = model.remove(&filter).unwrap();
            assert_eq!(index.remove(&filter), Some((filter, count)));
        }
        Step::Unsubscribe(_) => assert_eq!(index.remove("a/+"), None),
        Step::Publish(topic) => {
            let mut seen = Vec::new();
            index.for_each_match(topic, |(filter, count)| seen.push((filter.clone(), *count)));
            seen.sort();
            let expected = model.iter().filter(|(filter, _)| matches(filter, topic));
            assert_eq!(
                seen,
                expected
                    .map(|(filter, count)| (filter.clone(), *count))
                    .collect::<Vec<_>>()
            );
        }
    }
    assert_eq!(index.len(), model.len());
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_model(steps in prop::collection::vec(step(), 0..120)) {
        let (mut index, mut model) = (FilterIndex::new(), BTreeMap::new());
        for step in &steps {
            check_step(&mut index, &mut model, step);
            index.wildcard.check();
        }
        for (filter, count) in &model {
            prop_assert_eq!(index.get(filter), Some(&(filter.clone(), *count)));
        }
        for filter in model.keys() {
            index.remove(filter);
            index.wildcard.check();
        }
        assert_empty(&index);
    }

    #[test]
    fn renumbering_changes_nothing(filters in prop::collection::btree_set(filter(), 0..60), topic in topic()) {
        let mut index = FilterIndex::new();
        filters.iter().for_each(|filter| *index.entry(filter) = filter.clone());
        let (go, stay): (Vec<_>, Vec<_>) = filters.iter().partition(|filter| filter.len() % 2 == 0);
        go.iter().for_each(|filter| _ = index.remove(filter));
        index.wildcard.compact();
        index.wildcard.check();
        let expected: Vec<_> = stay.iter().map(|filter| filter.as_str()).filter(|filter| matches(filter, &topic)).collect();
        prop_assert_eq!(found(&index, &topic), expected);
        go.iter().for_each(|filter| index.entry(filter).clone_from(filter));
        index.wildcard.check();
        let expected: Vec<_> = filters.iter().filter(|filter| matches(filter, &topic)).collect();
        prop_assert_eq!(found(&index, &topic), expected);
        filters.iter().for_each(|filter| _ = index.remove(filter));
        assert_empty(&index);
    }
}
