//! What only reads, and what has no number, in the words of the simulation.

use std::collections::{BTreeMap, BTreeSet};

use cluster_sim::home::Answer;
use cluster_sim::home::call::{Queued, Servers as SimServers};
use cluster_sim::ids::{Cid, Home as SimHome, Inc, Index, Uid as SimUid};

use super::{Real, group_text, homes, message, reached_text, real_home, topic};
use crate::message::Message;
use crate::store::cluster::{Homes, Incarnation, Servers};
use crate::store::redis::attempt::last_calls;
use crate::store::redis::cluster::call::read_reached;
use crate::store::redis::cluster::generation::{self, Seen};
use crate::store::redis::cluster::members::Membership;
use crate::store::redis::entry::message_sum;
use crate::store::redis::keys::Home;
use crate::time::Millis;

impl Real {
    /// Whether it is a member, and what is over.
    pub(in super::super) fn beat(&mut self, inc: Inc, applied: u64, servers: &SimServers) -> (bool, Inc) {
        let node = Membership::new(&self.settings, &self.keys, u64::from(inc), super::LEASE);
        let beat = node.beat(applied, &servers_of(servers)).expect("an answer");
        (beat.is_member, beat.generation as Inc)
    }

    /// The generation.
    pub(in super::super) fn raise(&mut self, over: Inc, lost: &[SimHome]) -> Inc {
        let raised = generation::raise(&mut self.link, &self.keys, u64::from(over), homes(lost));
        raised.expect("an answer") as Inc
    }

    pub(in super::super) fn number(&mut self, home: SimHome, inc: Inc) -> Option<u64> {
        let numbers = last_calls(&mut self.link, &self.keys, u64::from(inc)).expect("numbers");
        let mut numbers = numbers.into_iter();
        numbers
            .find_map(|(of, number)| (of == real_home(home)).then_some(number))
            .flatten()
    }

    pub(in super::super) fn writers(&mut self, home: SimHome) -> BTreeSet<Incarnation> {
        let homes = std::iter::once(real_home(home));
        generation::writers(&mut self.link, &self.keys, homes).expect("writers")
    }

    /// By both ways to ask.
    pub(in super::super) fn position(&mut self) -> String {
        let mut command = redis::cmd("HMGET");
        command.arg(self.keys.of(Home::Global, "meta")).arg(&["pos", "gen"]);
        let [one, other] = [command, self.scripts.position(&self.keys)].map(|command| {
            let reached = read_reached(self.link.ask(command).expect("an answer")).expect("a position");
            reached_text(reached.position, reached.generation)
        });
        assert_eq!(one, other);
        one
    }

    pub(in super::super) fn nodes(&mut self) -> String {
        let mut members = self.membership.members().expect("members");
        assert!(members.now.take().is_some_and(|now| now > Millis::from_unix(0)));
        members_text(
            (&members.nodes, &members.recoverers),
            &members.servers,
            members.lost,
            (members.position, members.generation),
        )
    }

    /// The messages that are in a queue of the simulation, and those between them.
    pub(in super::super) fn look(
        &mut self,
        (cid, uid): (Cid, SimUid),
        expected: Option<&(BTreeMap<Index, Queued>, Index)>,
    ) -> String {
        let places: Vec<_> = (0..expected.map_or(3, |(_, next)| next + 2)).collect();
        let wanted = [(self.uid(cid, uid), places.clone())];
        let found = generation::look_places(&mut self.link, &self.keys, &wanted).expect("is read");
        let [found] = &found[..] else {
            panic!("{} answers", found.len());
        };
        let Some(found) = found else {
            return "not there".to_owned();
        };
        assert_eq!(found.places.len(), places.len());
        let seen = places.into_iter().zip(&found.places);
        let seen = seen.filter_map(|(place, seen)| Some((place, seen.as_ref()?)));
        let seen: Vec<_> = seen.map(|(place, seen)| seen_text(place, seen)).collect();
        format!("next {} {seen:?}", found.next)
    }
}

fn seen_text(place: Index, seen: &Seen) -> String {
    let group = seen.share.as_deref().map(group_text);
    format!("{place} {:?} of {group:?}", seen.sum)
}

pub(in super::super) fn queue_text(found: Option<&(BTreeMap<Index, Queued>, Index)>) -> String {
    let Some((queue, next)) = found else {
        return "not there".to_owned();
    };
    let queue = queue.iter().map(|(place, queued)| {
        let (topic, payload) = (topic(queued.message.topic), queued.message.id.to_string());
        let sum = message_sum(&Message::new(&message(&queued.message, &topic, &payload)));
        let sum = (!queued.released).then_some(sum);
        let group = queued.group.map(|group| group.to_string());
        format!("{place} {sum:?} of {group:?}")
    });
    format!("next {next} {:?}", queue.collect::<Vec<_>>())
}

pub(super) fn servers_of(servers: &SimServers) -> Servers {
    let mut of = Servers::default();
    servers
        .iter()
        .for_each(|(shard, server)| of.insert(&format!("{shard}s{server}")));
    of
}

/// What the simulation answers of its nodes.
pub(in super::super) fn nodes_text(answer: &Answer, generation: Inc) -> String {
    let Answer::Nodes {
        nodes,
        recoverers,
        lost,
        position,
    } = answer
    else {
        unreachable!("it is answered so")
    };
    let with_servers = nodes.iter().filter(|node| !node.servers.is_empty());
    members_text(
        (
            &nodes
                .iter()
                .map(|node| (u64::from(node.inc), node.counter))
                .collect::<Vec<_>>(),
            &recoverers
                .iter()
                .map(|(dead, by)| (u64::from(*dead), u64::from(*by)))
                .collect::<Vec<_>>(),
        ),
        &with_servers
            .map(|node| (u64::from(node.inc), servers_of(&node.servers)))
            .collect::<Vec<_>>(),
        homes(lost),
        (*position, u64::from(generation)),
    )
}

type Numbers = [(Incarnation, u64)];

fn members_text(
    (nodes, recoverers): (&Numbers, &Numbers),
    servers: &[(Incarnation, Servers)],
    lost: Homes,
    reached: (u64, Incarnation),
) -> String {
    let servers = servers.iter().map(|(node, servers)| format!("{node}: {servers}"));
    let servers: Vec<_> = servers.collect();
    format!("{nodes:?} {recoverers:?} {servers:?} {lost} {reached:?}")
}
