//! Who takes part in a round.

use crate::churn::Churn;
use crate::client::{Client, Settings, WillPlan};
use crate::packet::Version;
use crate::publisher::{Publisher, Topic};
use crate::random::Random;
use crate::world::World;

/// Retained messages that are there before the load, and do not change.
pub const OLD: usize = 120;
/// Where the last message of all goes.
pub const END: &str = "end/all";

const V311: Version = Version::V311;
const V5: Version = Version::V5;

/// Adds all that are there from the beginning.
pub fn gather(world: &mut World, random: &mut Random) {
    subscribers(world);
    publishers(world, random);
    wills(world);
    for number in 1..=8 {
        let name = format!("churn-{number}");
        let version = if number % 2 == 0 { V5 } else { V311 };
        let mut client = Client::new(&name, Settings::persistent(version)).wants("end/#", 1);
        client.churn = Some(Churn::new(&format!("churn/{name}"), random.branch()));
        world.add(client);
    }
}

/// Those who subscribe: `on` are connected; `off`, `late` are not when the broker is killed; `vol` have sessions that
/// end with their connection; `clean` have replaced a session that did not; `g`, `h` and `k` share subscriptions; `lag` acknowledge late; `replay` subscribe to old messages.
fn subscribers(world: &mut World) {
    let persistent = |name: &str, version| Client::new(name, Settings::persistent(version)).wants("end/#", 1);
    let volatile = |name: &str, version| Client::new(name, Settings::volatile(version)).wants("end/#", 1);
    let slow = |mut client: Client, receive_maximum, lag| {
        client.settings.receive_maximum = receive_maximum;
        client.settings.lag = lag;
        client
    };
    for client in [
        persistent("on-1", V311).wants("load/#", 2),
        persistent("on-2", V5).wants("load/+/b", 1).wants("load/+/m", 1),
        slow(persistent("on-3", V5), Some(20), 0)
            .wants("load/p1/b", 2)
            .wants("load/p2/m", 2)
            .wants("load/p3/#", 2),
        persistent("off-1", V311).wants("load/+/a", 2).wants("load/+/b", 2),
        persistent("off-2", V5).wants("load/#", 2),
        persistent("late-1", V5).wants("load/+/m", 2).wants("load/+/r2", 2),
        volatile("vol-1", V5).wants("load/+/m", 2),
        volatile("vol-2", V311).wants("load/+/b", 1),
        slow(persistent("lag-1", V5), Some(40), 20).wants("load/+/b", 2),
        slow(persistent("lag-2", V311), None, 8).wants("load/+/m", 2),
        persistent("clean-1", V311).wants("load/+/a", 1),
        persistent("clean-2", V5).wants("load/+/b", 2),
        persistent("watch-1", V5).wants("will/#", 2),
        persistent("watch-2", V311).wants("will/#", 2),
        slow(persistent("replay-1", V5), Some(5), 0),
        slow(persistent("replay-2", V311), None, 3),
    ] {
        world.add(client);
    }
    for (name, version) in [("g-1", V311), ("g-2", V5), ("g-3", V5)] {
        world.add(persistent(name, version).wants("$share/g/load/#", 2));
    }
    for (name, version) in [("h-1", V5), ("h-2", V311)] {
        world.add(persistent(name, version).wants("$share/h/load/+/m", 1));
    }
}

/// Members of a Shared Subscription of whom nothing is kept, `k`, and one that stays, for a cluster: only there messages move to other
/// members when a broker dies.
pub fn volatile_members(world: &mut World) {
    for (name, version) in [("k-1", V5), ("k-2", V311)] {
        let client = Client::new(name, Settings::volatile(version)).wants("end/#", 1);
        world.add(client.wants("$share/k/load/+/m", 2));
    }
    world.add(Client::new("k-3", Settings::persistent(V5)).wants("$share/k/load/+/m", 2));
}

/// Clients with wills who come back by themselves, `w-roam`, for a cluster: enough that some are at any node that leaves.
pub fn roamers_with_wills(world: &mut World) {
    for number in 1..=6 {
        let settings = with_will(Settings::persistent(V5), 2, false, 0);
        world.add(Client::new(&format!("w-roam-{number}"), settings));
    }
}

fn with_will(settings: Settings, qos: u8, retain: bool, delay: u32) -> Settings {
    let will = Some(WillPlan { qos, retain, delay });
    Settings { will, ..settings }
}

fn publishers(world: &mut World, random: &mut Random) {
    for number in 1..=8 {
        let version = if number % 2 == 0 { V5 } else { V311 };
        let name = format!("p{number}");
        let settings = match number {
            3 | 4 => Settings::volatile(version),
            _ => Settings::persistent(version),
        };
        let mut client = Client::new(&name, settings);
        let window = random.between(30, 60) as usize;
        client.publisher = Some(Publisher::new(load_topics(&name), window, random.branch()));
        world.add(client);
    }
    let topics = (0..OLD).map(|at| Topic::new(&format!("old/{at}"), Some(1 + (at % 2) as u8), true));
    let mut keeper = Client::new("keeper", Settings::persistent(V5));
    keeper.publisher = Some(Publisher::once(topics.collect(), 50, random.branch()));
    world.add(keeper);
}

fn load_topics(name: &str) -> Vec<Topic> {
    let topic = |kind: &str, qos, retain| Topic::new(&format!("load/{name}/{kind}"), qos, retain);
    let mut clears = Topic::new(&format!("clear/{name}"), Some(2), true);
    clears.empty = 30;
    vec![
        topic("a", Some(1), false),
        topic("b", Some(2), false),
        topic("m", None, false),
        topic("r1", Some(1), true),
        topic("r2", Some(2), true),
        clears,
    ]
}

/// Clients with wills: `w-lost` are connected when the broker is killed; `w-bye` have said goodbye; `w-mid` are cut off
/// during the load; `w-now` just before the broker is killed; `w-delay` have delays that pass after the restart; `w-back` come back before theirs have passed.
fn wills(world: &mut World) {
    let mut add = |name: &str, settings: Settings, qos, delay| {
        let settings = with_will(settings, qos, name.contains("-r-"), delay);
        world.add(Client::new(name, settings));
    };
    add("w-lost-1", Settings::volatile(V311), 2, 0);
    add("w-lost-2", Settings::volatile(V5), 1, 0);
    add("w-lost-3", Settings::persistent(V311), 1, 0);
    add("w-lost-4", Settings::persistent(V5), 2, 0);
    add("w-lost-r-5", Settings::persistent(V5), 2, 0);
    add("w-now-1", Settings::persistent(V5), 2, 0);
    add("w-now-r-2", Settings::persistent(V5), 2, 0);
    add("w-now-r-3", Settings::volatile(V311), 1, 0);
    add("w-now-4", Settings::volatile(V5), 2, 0);
    for number in 5..=10 {
        add(&format!("w-now-r-{number}"), Settings::persistent(V5), 2, 0);
    }
    add("w-bye-1", Settings::volatile(V311), 2, 0);
    add("w-bye-2", Settings::persistent(V5), 2, 1);
    add("w-with-1", Settings::persistent(V5), 2, 0);
    add("w-mid-1", Settings::persistent(V5), 2, 0);
    add("w-mid-2", Settings::volatile(V311), 2, 0);
    add("w-mid-3", Settings::persistent(V5), 2, 1);
    add("w-delay-1", Settings::persistent(V5), 2, 1);
    // Its session ends with its connection, and the delay with that.
    add("w-delay-2", Settings::volatile(V5), 2, 30);
    add("w-back-1", Settings::persistent(V5), 2, 60);
    // Its session is ended by a DISCONNECT, and asked for again.
    add("w-ended-1", Settings::persistent(V5), 2, 0);
}

/// Whether a client of a cluster comes back by itself when its connection ends. Of those with wills, only some do.
pub fn comes_back(name: &str) -> bool {
    let some = ["w-lost-3", "w-lost-4", "w-roam", "w-back", "w-ended"];
    !name.starts_with("w-") || some.iter().any(|prefix| name.starts_with(prefix))
}

/// Clients that connect, and subscribe, just before the broker is killed.
pub fn newcomers() -> impl Iterator<Item = Client> {
    (1..=8).map(|number| {
        let version = if number % 2 == 0 { V5 } else { V311 };
        let client = Client::new(&format!("new-{number}"), Settings::persistent(version)).wants("end/#", 1);
        (0..5).fold(client, |client, filter| {
            client.wants(&format!("new/{number}/{filter}"), 1)
        })
    })
}

/// One that looks at the retained messages.
pub fn probe(number: usize, random: Random) -> Client {
    let name = format!("probe-{number}");
    let mark = Topic::new(&format!("mark/{number}"), Some(1), false);
    let mut client = Client::new(&name, Settings::volatile(V5)).wants(&mark.name, 1);
    client.publisher = Some(Publisher::once(vec![mark], 1, random));
    client
}

/// One that publishes to each of these topics.
pub fn speaker(name: &str, topics: Vec<Topic>, random: Random) -> Client {
    let mut client = Client::new(name, Settings::volatile(V5));
    client.publisher = Some(Publisher::once(topics, 50, random));
    client
}
