use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::topic::matches;

fn tree_of(topics: &[&str]) -> RetainedTree<()> {
    let mut tree = RetainedTree::new();
    topics.iter().for_each(|topic| _ = tree.insert(topic, ()));
    tree
}

fn found<'a, M>(tree: &'a RetainedTree<M>, filter: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    tree.for_each_match(filter, |topic, _| found.push(topic));
    found
}

#[test]
fn a_filter_finds_its_topics() {
    // `-`, `.` and space come before `/` in the order of bytes, `0` after it.
    let tree = tree_of(&[
        "a", "a/b", "a-1", "a/b/c", "b/b", "$SYS/b", "a.b/b", "a /b", "a0/b", "a/", "/", "/b", "ü/b",
    ]);
    assert_eq!(
        found(&tree, "+/b"),
        ["/b", "a /b", "a.b/b", "a/b", "a0/b", "b/b", "ü/b"]
    );
    assert_eq!(found(&tree, "a/#"), ["a", "a/", "a/b", "a/b/c"]);
    assert_eq!(found(&tree, "a/+"), ["a/", "a/b"]);
    assert_eq!(found(&tree, "+/+/c"), ["a/b/c"]);
    assert_eq!(found(&tree, "+"), ["a", "a-1"]);
    assert_eq!(found(&tree, "+/#").len(), 12);
    assert_eq!(found(&tree, "#").len(), 12);
    assert_eq!(found(&tree, "a/b"), ["a/b"]);
    assert_eq!(found(&tree, "a/b/c/d"), [""; 0]);
    assert_eq!(found(&tree, "$SYS/#"), ["$SYS/b"]);
    assert_eq!(found(&tree, "$SYS/+"), ["$SYS/b"]);
}

#[test]
fn a_topic_has_one_message() {
    let mut tree = RetainedTree::default();
    assert!(tree.is_empty());
    assert_eq!(
        (tree.insert("a/b", 1), tree.insert("a/b", 2), tree.insert("a", 3)),
        (None, Some(1), None)
    );
    assert_eq!((tree.get("a/b"), tree.get("a/"), tree.len()), (Some(&2), None, 2));
    assert_eq!(
        (tree.remove("a/b"), tree.remove("a/b"), tree.remove("b")),
        (Some(2), None, None)
    );
    assert_eq!(found(&tree, "#"), ["a"]);
}

#[test]
fn memory_goes_back_topic_by_topic() {
    let mut tree = RetainedTree::new();
    (0..1000).for_each(|n| _ = tree.insert(&n.to_string(), ()));
    (0..1000).for_each(|n| _ = tree.remove(&n.to_string()));
    assert!(tree.is_empty() && tree.order.is_empty());
    assert!(tree.messages.capacity() <= 64);
}

#[test]
fn expired_messages_are_swept() {
    let mut tree = RetainedTree::new();
    (0..1000).for_each(|n| _ = tree.insert(&format!("device/{n}"), n));
    tree.retain(|n| n % 100 == 0);
    assert_eq!(tree.len(), 10);
    assert_eq!(found(&tree, "device/+").len(), 10);
    tree.retain(|_| false);
    assert!(tree.is_empty() && tree.order.is_empty());
    assert!(tree.messages.capacity() <= 64);
}

#[test]
fn a_sweep_can_be_done_in_parts() {
    let mut tree = RetainedTree::new();
    (0..100).for_each(|n| _ = tree.insert(&format!("{n:02}"), n));
    let mut asked = Vec::new();
    let mut sweep = |tree: &mut RetainedTree<i32>, from: &str, budget| {
        let next = tree.retain_some(from, budget, |&n| {
            asked.push(n);
            n % 3 == 0
        });
        next.as_deref().map(str::to_owned)
    };
    assert_eq!(sweep(&mut tree, "", 40).as_deref(), Some("40"));
    tree.remove("40");
    assert_eq!(sweep(&mut tree, "40", 0).as_deref(), Some("42"));
    assert_eq!(sweep(&mut tree, "42", 57).as_deref(), Some("99"));
    assert_eq!(sweep(&mut tree, "99", 57), None);
    assert_eq!(asked, (0..40).chain(41..100).collect::<Vec<_>>());
    assert_eq!((tree.len(), tree.order.len()), (34, 34));
    assert!(tree.messages.values().all(|n| n % 3 == 0));
}

#[test]
fn a_topic_can_be_shared_with_its_message() {
    let (mut tree, topic) = (RetainedTree::new(), Arc::<str>::from("a/b"));
    assert_eq!(
        (tree.insert_shared(&topic, 1), tree.insert_shared(&topic, 2)),
        (None, Some(1))
    );
    assert_eq!(
        (tree.insert("a/b", 3), tree.len(), found(&tree, "a/+")),
        (Some(2), 1, vec!["a/b"])
    );
    assert_eq!(Arc::strong_count(&topic), 3);
    tree.remove("a/b");
    assert_eq!(Arc::strong_count(&topic), 1);
}

#[test]
fn the_deepest_topics_need_no_stack() {
    let work = || {
        let deep = "/".repeat(65_535);
        let tree = tree_of(&[&deep, &deep[1..], "a"]);
        assert_eq!(found(&tree, "#").len(), 3);
        assert_eq!(found(&tree, &("+/".repeat(32_767) + "#")), [&deep[1..], &deep]);
        assert_eq!(found(&tree, &("/".repeat(65_534) + "+")), [&deep[1..]]);
        assert_eq!(found(&tree, &("+/".repeat(32_767) + "x")), [""; 0]);
    };
    std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

/// Steps of a walk that finds nothing.
fn steps<M>(tree: &RetainedTree<M>, filter: &str) -> usize {
    let mut from = Some(Arc::from(""));
    std::iter::from_fn(|| {
        from = tree.for_some_matches(filter, from.as_ref()?, 1, |topic, _| panic!("{topic}"));
        Some(())
    })
    .count()
}

#[test]
fn a_walk_jumps_over_what_cannot_match() {
    let mut tree = RetainedTree::new();
    for branch in ["a", "b", "c"] {
        (0..1000).for_each(|n| _ = tree.insert(&format!("{branch}/{n}/deep/down"), ()));
    }
    (0..1000).for_each(|n| _ = tree.insert(&format!("$SYS/{n}"), ()));
    assert!(steps(&tree, "+/x") < 10);
    assert!(steps(&tree, "+/x/#") < 10);
    assert!(steps(&tree, "b/x/+/y") < 5);
    assert!(steps(&tree, "d/#") < 5);
    assert!(steps(&tree, "+") < 10);
    assert!(steps(&tree, "a/+/x") < 2100);
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab./0$%ü -]{0,2}", 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("not empty", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    (prop::collection::vec("\\+|\\+|[ab./0$%ü -]{0,2}", 0..5), any::<bool>())
        .prop_map(|(mut levels, multi)| {
            levels.extend(multi.then(|| "#".to_owned()));
            levels.join("/")
        })
        .prop_filter("not empty", |filter| !filter.is_empty())
}

#[derive(Clone, Debug)]
enum Step {
    Insert(String, u32),
    Remove(prop::sample::Index),
    Sweep(u32),
    Walk(String, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (topic(), 0..50u32).prop_map(|(topic, value)| Step::Insert(topic, value)),
        3 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => (0..50u32).prop_map(Step::Sweep),
        4 => (filter(), 1..5usize).prop_map(|(filter, budget)| Step::Walk(filter, budget)),
    ]
}

fn check_walk(tree: &RetainedTree<u32>, model: &BTreeMap<String, u32>, filter: &str, budget: usize) {
    let expected: Vec<_> = model.iter().filter(|(topic, _)| matches(filter, topic)).collect();
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(topic, value)| (topic.as_str(), *value))
        .collect();
    let mut seen = Vec::new();
    tree.for_each_match(filter, |topic, value| seen.push((topic, *value)));
    assert_eq!(seen, expected, "{filter}");
    let (mut seen, mut from) = (Vec::new(), Some(Arc::from("")));
    while let Some(start) = from {
        from = tree.for_some_matches(filter, &start, budget, |topic, value| seen.push((topic, *value)));
    }
    assert_eq!(seen, expected, "{filter}, {budget} steps at a time");
}

fn check_step(tree: &mut RetainedTree<u32>, model: &mut BTreeMap<String, u32>, step: &Step) {
    match step {
        Step::Insert(topic, value) => assert_eq!(tree.insert(topic, *value), model.insert(topic.clone(), *value)),
        Step::Remove(which) if !model.is_empty() => {
            let topic = model.keys().nth(which.index(model.len())).unwrap().clone();
            assert_eq!(tree.remove(&topic), model.remove(&topic));
        }
        Step::Remove(_) => assert_eq!(tree.remove("a"), None),
        Step::Sweep(limit) => {
            tree.retain(|value| value >= limit);
            model.retain(|_, value| *value >= *limit);
        }
        Step::Walk(filter, budget) => check_walk(tree, model, filter, *budget),
    }
    assert_eq!((tree.len(), tree.order.len()), (model.len(), model.len()));
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_model(steps in prop::collection::vec(step(), 0..100)) {
        let (mut tree, mut model) = (RetainedTree::new(), BTreeMap::new());
        for step in &steps {
            check_step(&mut tree, &mut model, step);
        }
        for (topic, value) in &model {
            prop_assert_eq!(tree.get(topic), Some(value));
            prop_assert_eq!(tree.remove(topic), Some(*value));
        }
        prop_assert!(tree.is_empty() && tree.order.is_empty());
    }
}
