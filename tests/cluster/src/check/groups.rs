//! Shared subscriptions (C5).

use std::collections::{BTreeMap, BTreeSet};

use super::Seen;
use super::promises::{living, promised_from, wills_expected};
use super::story::{At, Publication, Session, Story};
use crate::ids::{Filter, Qos};

/// What each group got: of a message, in which sessions.
type Given<'a> = BTreeMap<u32, Vec<(usize, Qos)>>;

pub(super) fn groups_share(history: &[Seen], story: &Story, found: &mut Vec<String>) {
    let asked = story.sessions.iter().flat_map(|session| session.asked.keys());
    let filters: BTreeSet<Filter> = asked.filter(|filter| filter.group.is_some()).copied().collect();
    for filter in filters {
        let given = given_to(story, filter);
        one_member(story, filter, &given, found);
        nothing_is_lost(story, filter, &given, found);
        wills_arrive(history, story, filter, &given, found);
    }
    only_members(story, found);
}

fn given_to(story: &Story, filter: Filter) -> Given<'_> {
    let mut given = Given::new();
    for (at, session) in story.sessions.iter().enumerate() {
        for (_, group, message) in &session.given {
            if filter == Filter::shared(*group, message.topic) {
                given.entry(message.id).or_default().push((at, message.qos));
            }
        }
    }
    given
}

/// QoS 2 once; QoS 1 to another member if it was published again, or the session of a member has ended.
fn one_member(story: &Story, filter: Filter, given: &Given<'_>, found: &mut Vec<String>) {
    for (id, sessions) in given {
        let is_qos2 = sessions.iter().all(|(_, qos)| *qos == Qos::Two);
        let members: BTreeSet<_> = sessions.iter().map(|(session, _)| *session).collect();
        if story.is_old(*id) {
            continue;
        }
        let publication = story.messages.get(id);
        let may_repeat = publication
            .is_some_and(|publication| publication.reads.len() > 1 || member_ended(story, filter, publication.sent));
        if (is_qos2 && sessions.len() > 1) || (!is_qos2 && members.len() > 1 && !may_repeat) {
            found.push(format!("C5: {filter:?} got message {id} in sessions {members:?}"));
        }
    }
}

/// Who has subscribed before and stays makes sure that somebody gets it.
fn nothing_is_lost(story: &Story, filter: Filter, given: &Given<'_>, found: &mut Vec<String>) {
    let of_topic = |publication: &&Publication| publication.message.topic == filter.topic;
    for publication in story.messages.values().filter(of_topic) {
        let Some(from) = promised_from(publication) else {
            continue;
        };
        let is_promised = |since: &At| *since < from && story.is_promised(publication, *since);
        let stays = |session: &Session| session.subs.get(&filter).is_some_and(is_promised);
        let is_given = given.contains_key(&publication.message.id);
        // Of QoS 2, what was given to a member ends with its session; and so does what was given while writes were lost.
        let ends_with_member = publication.message.qos == Qos::Two || story.is_before_order(publication.sent);
        let may_be_lost = ends_with_member && member_ended(story, filter, from);
        if living(story).any(stays) && !is_given && !may_be_lost {
            found.push(format!("C5: {filter:?} lost {:?}", publication.message));
        }
    }
}

fn wills_arrive(history: &[Seen], story: &Story, filter: Filter, given: &Given<'_>, found: &mut Vec<String>) {
    for conn in story.conns.values() {
        let Some(will) = conn
            .will
            .filter(|will| will.message.topic == filter.topic && !story.is_before_order(conn.begin))
        else {
            continue;
        };
        let (least, _) = wills_expected(history, story, conn, will.delay);
        let stays = |session: &Session| session.subs.get(&filter).is_some_and(|since| *since < conn.begin);
        let is_given = given.contains_key(&will.message.id);
        if least > 0 && living(story).any(stays) && !is_given && !member_ended(story, filter, conn.begin) {
            found.push(format!("C5: {filter:?} lost the will {}", will.message.id));
        }
    }
}

/// Whether the session of a member has ended after this, or may have.
fn member_ended(story: &Story, filter: Filter, after: At) -> bool {
    let was_member = |session: &&Session| session.asked.contains_key(&filter);
    let mut members = story.sessions.iter().filter(was_member);
    members.any(|session| session.over.is_some_and(|over| over > after))
}

fn only_members(story: &Story, found: &mut Vec<String>) {
    if story.may_resume_older() {
        return;
    }
    for session in &story.sessions {
        for (at, group, message) in &session.given {
            let asked = session.asked.get(&Filter::shared(*group, message.topic));
            if asked.is_none_or(|asked| asked > at) {
                found.push(format!("C5: client {} is no member, and got {message:?}", session.cid));
            }
        }
    }
}
