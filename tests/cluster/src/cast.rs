//! Who takes part in a random run.

use std::rc::Rc;

use crate::client::{self, LONG, Plan};
use crate::ids::{Cid, Filter, Message, Qos, Topic};
use crate::run::Profile;
use crate::world::{LEASE, World};

/// Messages go here; wills; retained messages; and QoS 1 for a client that has rivals.
const TOPICS: [Topic; 2] = [1, 2];
const WILL_TOPIC: Topic = 9;
pub(crate) const RETAINED_TOPIC: Topic = 5;
const CONTESTED_TOPIC: Topic = 3;
/// Those of this group get each message of the first topic, and each will, once.
const GROUP: u8 = 1;
/// Nobody subscribes to this one.
const UNHEARD_TOPIC: Topic = 7;

/// Who takes part.
pub(crate) fn cast(world: &Rc<World>, profile: &Profile) {
    let both = [Qos::One, Qos::Two];
    let leaves = profile.leaves;
    let group = [
        Filter::shared(GROUP, TOPICS[0]),
        Filter::shared(GROUP, TOPICS[1]),
        Filter::shared(GROUP, WILL_TOPIC),
    ];
    let all = [TOPICS[0], TOPICS[1], WILL_TOPIC].map(Filter::from);
    client::spawn(
        world,
        Plan {
            subs: [&all[..], &group[..]].concat(),
            away: if profile.failovers > 0 {
                (LEASE, LEASE * 4)
            } else {
                (1, LEASE)
            },
            leaves,
            ..quiet(1)
        },
    );
    client::spawn(
        world,
        Plan {
            subs: [TOPICS[0], WILL_TOPIC].map(Filter::from).to_vec(),
            expiry: 0,
            leaves: leaves / 3,
            ..quiet(2)
        },
    );
    let delay = [0, LEASE / 2, LEASE * 2][world.random.index(3)];
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 1000, 12, &TOPICS, &both),
            will: Some((WILL_TOPIC, delay)),
            clean: profile.clean,
            leaves,
            ..quiet(3)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 2000, 12, &TOPICS, &both),
            leaves,
            ..quiet(4)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 3000, 12, &[TOPICS[0], RETAINED_TOPIC], &both),
            expiry: 0,
            // As a client that says whether it is there.
            will: Some(([WILL_TOPIC, RETAINED_TOPIC][world.random.index(2)], 0)),
            leaves: leaves / 2,
            ..quiet(5)
        },
    );
    client::spawn(
        world,
        Plan {
            subs: [TOPICS[0], RETAINED_TOPIC].map(Filter::from).to_vec(),
            clean: profile.clean * 6,
            leaves,
            toggles: profile.toggles,
            ..quiet(6)
        },
    );
    client::spawn(
        world,
        Plan {
            subs: vec![CONTESTED_TOPIC.into()],
            leaves: leaves / 5,
            ..quiet(8)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 4000, 16, &[CONTESTED_TOPIC], &[Qos::One]),
            pause: (5, 40),
            ..quiet(9)
        },
    );
    client::spawn(
        world,
        Plan {
            publishes: messages(world, 5000, 24, &[UNHEARD_TOPIC], &[Qos::One]),
            pause: (20, 200),
            ..quiet(11)
        },
    );
    let expiry = world.random.between(LEASE, LEASE * 3);
    client::spawn(
        world,
        Plan {
            subs: vec![TOPICS[1].into()],
            will: Some((WILL_TOPIC, LEASE)),
            expiry,
            leaves,
            away: (LEASE, LEASE * 4),
            ..quiet(10)
        },
    );
    members(world, profile, &group);
    rivals(world, profile);
}

fn messages(
    world: &World,
    first: u32,
    count: u32,
    topics: &[Topic],
    qos: &[Qos],
) -> std::collections::VecDeque<Message> {
    // Messages of different QoS on one topic have no order.
    let retained_qos = qos[world.random.index(qos.len())];
    let message = |n| {
        let topic = topics[world.random.index(topics.len())];
        let retain = topic == RETAINED_TOPIC;
        let qos = if retain {
            retained_qos
        } else {
            qos[world.random.index(qos.len())]
        };
        Message {
            id: first + n,
            topic,
            qos,
            retain,
        }
    };
    (0..count).map(message).collect()
}

pub(crate) fn quiet(cid: Cid) -> Plan {
    Plan {
        cid,
        expiry: LONG,
        clean: 0,
        subs: Vec::new(),
        publishes: Default::default(),
        pause: (10, 90),
        will: None,
        leaves: 0,
        says_so: 40,
        at: None,
        is_rival: false,
        away: (1, LEASE),
        toggles: 0,
    }
}

/// Members of the group whose sessions end.
fn members(world: &Rc<World>, profile: &Profile, group: &[Filter]) {
    client::spawn(
        world,
        Plan {
            subs: group.to_vec(),
            expiry: 0,
            leaves: profile.leaves,
            ..quiet(12)
        },
    );
    client::spawn(
        world,
        Plan {
            subs: group.to_vec(),
            clean: profile.clean * 6,
            leaves: profile.leaves,
            toggles: profile.toggles,
            ..quiet(13)
        },
    );
}

fn rivals(world: &Rc<World>, profile: &Profile) {
    for _ in 0..profile.rivals {
        let cid = [4, 8, 11][world.random.index(3)];
        let time = world.random.between(50, profile.busy);
        let plan = Plan {
            is_rival: true,
            pause: (1, 5),
            ..quiet(cid)
        };
        world.at(time, None, move |world| client::spawn(world, plan));
    }
}
