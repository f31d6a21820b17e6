//! Who publishes what to whom, for the shapes whose messages flow.

use std::ops::Range;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// All Topic Names.
    pub(super) topics: Vec<String>,
    /// Which of them each publisher goes through, over and over.
    pub(super) publishers: Vec<Range<usize>>,
    pub(super) groups: Vec<Group>,
}

/// Subscribers of which one gets each message of these publishers: a single one, the members of a Shared Subscription,
/// or some that have divided the topics among themselves.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) publishers: Range<usize>,
    /// The Topic Filters of each member.
    pub(super) members: Vec<Vec<String>>,
}

impl Plan {
    pub(super) fn p2p(prefix: &str, pairs: usize) -> Plan {
        let topics: Vec<_> = (0..pairs).map(|pair| format!("{prefix}/pair/{pair}")).collect();
        Plan {
            publishers: (0..pairs).map(|pair| pair..pair + 1).collect(),
            groups: (0..pairs)
                .map(|pair| Group::one(pair..pair + 1, &topics[pair]))
                .collect(),
            topics,
        }
    }

    pub(super) fn fan_out(prefix: &str, subscribers: usize) -> Plan {
        let topic = format!("{prefix}/news");
        Plan {
            publishers: std::iter::once(0..1).collect(),
            groups: (0..subscribers).map(|_| Group::one(0..1, &topic)).collect(),
            topics: vec![topic],
        }
    }

    pub(super) fn fan_in(prefix: &str, publishers: usize) -> Plan {
        Plan {
            topics: (0..publishers)
                .map(|number| format!("{prefix}/sensor/{number}"))
                .collect(),
            publishers: (0..publishers).map(|number| number..number + 1).collect(),
            groups: vec![Group::one(0..publishers, &format!("{prefix}/sensor/+"))],
        }
    }

    pub(super) fn shared(prefix: &str, publishers: usize, members: usize) -> Plan {
        let filter = format!("$share/workers/{prefix}/job/+");
        Plan {
            topics: (0..publishers).map(|number| format!("{prefix}/job/{number}")).collect(),
            publishers: (0..publishers).map(|number| number..number + 1).collect(),
            groups: vec![Group {
                publishers: 0..publishers,
                members: vec![vec![filter]; members],
            }],
        }
    }

    /// Each topic matches one filter of each kind, and the clients of each kind have divided its filters.
    pub(super) fn matching(prefix: &str, publishers: usize, topics: usize, filters: usize) -> Plan {
        let share = |part: usize, ends_with: &str, kind: fn(&str, usize) -> String| {
            let count = (filters * part / 10).max(topics);
            let mut members = vec![Vec::new(); CLIENTS_OF_A_KIND];
            for number in 0..count {
                members[number % CLIENTS_OF_A_KIND].push(kind(prefix, number) + ends_with);
            }
            Group {
                publishers: 0..publishers,
                members,
            }
        };
        Plan {
            topics: (0..topics).map(|number| exact(prefix, number)).collect(),
            publishers: vec![0..topics; publishers],
            groups: vec![share(6, "", exact), share(3, "", single), share(1, "/#", multi)],
        }
    }
}

impl Group {
    fn one(publishers: Range<usize>, filter: &str) -> Group {
        Group {
            publishers,
            members: vec![vec![filter.to_owned()]],
        }
    }
}

const CLIENTS_OF_A_KIND: usize = 10;

/// The Topic Filters of a client that has many: 60 % exact, 30 % with `+`, 10 % with `#`, for topics of five levels.
pub(super) fn mixed_filter(prefix: &str, number: usize) -> String {
    match number % 10 {
        0..=5 => exact(prefix, number),
        6..=8 => single(prefix, number),
        _ => multi(prefix, number) + "/#",
    }
}

fn exact(prefix: &str, number: usize) -> String {
    format!("{prefix}/site{}/line{number}/state", number % 100)
}

fn single(prefix: &str, number: usize) -> String {
    format!("{prefix}/+/line{number}/state")
}

fn multi(prefix: &str, number: usize) -> String {
    format!("{prefix}/site{}/line{number}", number % 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::filters::FilterIndex;

    fn check(plan: &Plan) {
        for (publisher, topics) in plan.publishers.iter().enumerate() {
            for topic in &plan.topics[topics.clone()] {
                for group in plan.groups.iter().filter(|group| group.publishers.contains(&publisher)) {
                    let mut index = FilterIndex::<usize>::new();
                    for filter in group.members.iter().flatten() {
                        *index.entry(filter.strip_prefix("$share/workers/").unwrap_or(filter)) += 1;
                    }
                    let mut found = 0;
                    index.for_each_match(topic, |_| found += 1);
                    assert_eq!(found, 1, "{topic}");
                }
            }
        }
    }

    #[test]
    fn each_message_is_for_one_of_each_group() {
        check(&Plan::p2p("b/1", 3));
        check(&Plan::fan_out("b/1", 3));
        check(&Plan::fan_in("b/1", 3));
        check(&Plan::shared("b/1", 3, 2));
        check(&Plan::matching("b/1", 2, 30, 500));
    }

    #[test]
    fn all_filters_are_different() {
        let filters: std::collections::HashSet<_> = (0..1000).map(|number| mixed_filter("b/1", number)).collect();
        assert_eq!(filters.len(), 1000);
    }
}
