//! The promises, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::groups_share;
use super::story::{Connection, Publication, Session, Story};
use super::wills::{next_of, wills_come_first};
use super::{Event, Seen};
use crate::ids::{Inc, Message, Qos, Time, Token, Topic};
use crate::world::{GRACE, LEASE};

/// What is not as promised.
pub fn check(history: &[Seen]) -> Vec<String> {
    let story = Story::new(history);
    let mut found = Vec::new();
    all_are_served(&story, &mut found);
    acknowledged_messages_arrive(&story, &mut found);
    twice_is_never(&story, &mut found);
    in_order(&story, &mut found);
    only_what_was_asked_for(&story, &mut found);
    groups_share(history, &story, &mut found);
    wills_once(history, &story, &mut found);
    wills_come_first(&story, &mut found);
    one_owner(history, &story, &mut found);
    deaths_are_deaths(history, &mut found);
    retained_alike(history, &story, &mut found);
    for (_, event) in history {
        if let Event::Left { what } = event {
            found.push(format!("C8: left: {what}"));
        }
    }
    found
}

/// The place from which on the message is promised to those who have subscribed.
pub(super) fn promised_from(publication: &Publication) -> Option<usize> {
    let (acked, conn) = publication.acked?;
    match publication.message.qos {
        Qos::One => publication
            .reads
            .iter()
            .rfind(|(at, by)| *at < acked && *by == conn)
            .map(|(at, _)| *at),
        Qos::Two => publication.reads.first().map(|(at, _)| *at),
    }
}

/// At the end everybody is connected, and what they have sent is acknowledged.
fn all_are_served(story: &Story, found: &mut Vec<String>) {
    let cids: BTreeSet<_> = story.conns.values().map(|conn| conn.cid).collect();
    for cid in cids {
        if !story.conns.values().any(|conn| conn.cid == cid && conn.end.is_none()) {
            found.push(format!("C3: client {cid} is not served"));
        }
    }
}

pub(super) fn living(story: &Story) -> impl Iterator<Item = &Session> {
    let is_connected = |session: &usize| {
        story
            .conns
            .values()
            .any(|conn| conn.session == *session && conn.end.is_none())
    };
    let sessions = story.sessions.iter().enumerate();
    sessions
        .filter(move |(at, session)| session.over.is_none() && is_connected(at))
        .map(|(_, session)| session)
}

fn acknowledged_messages_arrive(story: &Story, found: &mut Vec<String>) {
    for session in living(story) {
        for publication in story.messages.values() {
            let message = publication.message;
            let (Some(from), Some(since)) = (promised_from(publication), session.subs.get(&message.topic.into()))
            else {
                continue;
            };
            if *since < from
                && story.is_promised(publication, *since)
                && !session
                    .delivered
                    .iter()
                    .any(|(_, delivered)| delivered.id == message.id)
            {
                found.push(format!(
                    "C1: client {} lost {message:?} of client {}",
                    session.cid, publication.cid
                ));
            }
        }
    }
}

fn twice_is_never(story: &Story, found: &mut Vec<String>) {
    for session in &story.sessions {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for (_, message) in session
            .delivered
            .iter()
            .filter(|(_, message)| message.qos == Qos::Two && !message.retain)
        {
            *counts.entry(message.id).or_default() += 1;
        }
        for (id, count) in counts
            .into_iter()
            .filter(|(id, count)| *count > 1 && !story.is_old(*id))
        {
            found.push(format!("QoS 2: client {} got message {id} {count} times", session.cid));
        }
    }
}

fn in_order(story: &Story, found: &mut Vec<String>) {
    for session in &story.sessions {
        let mut last: BTreeMap<(u8, Topic, Qos), (usize, Message)> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (_, message) in session.delivered.iter().filter(|(_, message)| !message.retain) {
            let Some(publication) = story.messages.get(&message.id) else {
                continue;
            };
            if !seen.insert(message.id) || story.is_before_order(publication.sent) {
                continue;
            }
            let stream = (publication.cid, message.topic, message.qos);
            // What came before the subscription and is sent again comes late with any broker; PROTOCOL.md says the same of
            // QoS 2 messages that a dead node had begun.
            let may_come_again = publication.reads.len() > 1 || message.qos == Qos::Two;
            let is_again = may_come_again && subscribed_after(session, publication);
            if let Some((sent, other)) = last.get(&stream)
                && *sent > publication.sent
                && !is_again
            {
                found.push(format!(
                    "order: client {} got {other:?} before {message:?}",
                    session.cid
                ));
            }
            last.insert(stream, (publication.sent, *message));
        }
    }
}

fn subscribed_after(session: &Session, publication: &Publication) -> bool {
    let since = session.subs.get(&publication.message.topic.into());
    since.is_none_or(|since| publication.reads.first().is_none_or(|(at, _)| at < since))
}

fn only_what_was_asked_for(story: &Story, found: &mut Vec<String>) {
    if story.may_resume_older() {
        return;
    }
    for session in &story.sessions {
        for (at, message) in &session.delivered {
            if session.asked.get(&message.topic.into()).is_none_or(|asked| asked > at) {
                found.push(format!("client {} got {message:?} without a subscription", session.cid));
            }
        }
    }
}

/// How often a will must have been published, at least and at most.
pub(super) fn wills_expected(history: &[Seen], story: &Story, conn: &Connection, delay: Time) -> (usize, usize) {
    let Some((_, ended)) = conn.end else { return (0, 0) };
    let later = story
        .conns
        .values()
        .filter(|other| other.cid == conn.cid && other.begin > conn.begin);
    let next = later.min_by_key(|other| other.begin);
    if conn.is_left {
        return will_of_left(history, story, conn, ended + delay.max(GRACE), next);
    }
    if let Some(next) = next.filter(|next| next.present && delay > 0) {
        let at = history[next.begin].0;
        return (0, usize::from(at >= ended + delay));
    }
    let is_resumed =
        |event: &Event| matches!(event, Event::Opened { cid, token } if *cid == conn.cid && *token != conn.token);
    let is_resumed = delay > 0 && history[conn.begin..].iter().any(|(_, event)| is_resumed(event));
    (usize::from(!conn.is_clean && !is_resumed), 1)
}

/// Its node has left: until then the client may come back.
fn will_of_left(
    history: &[Seen],
    story: &Story,
    conn: &Connection,
    until: Time,
    next: Option<&Connection>,
) -> (usize, usize) {
    let is_back =
        |event: &Event| matches!(event, Event::Opened { cid, token } if *cid == conn.cid && *token != conn.token);
    let is_back = history[conn.begin..].iter().any(|(_, event)| is_back(event));
    let has_left = story.left.contains(&conn.token.inc);
    // A session may end before.
    let session_ended = |next: &Connection| story.sessions[conn.session].name.is_some() && !next.present;
    let in_time = |next: &&Connection| history[next.begin].0 < until && !session_ended(next);
    let most = usize::from(!has_left || next.filter(in_time).is_none());
    (usize::from(!conn.is_clean && !is_back), most)
}

fn wills_once(history: &[Seen], story: &Story, found: &mut Vec<String>) {
    for conn in story.conns.values() {
        let Some(will) = conn.will.filter(|_| !story.is_before_order(conn.begin)) else {
            continue;
        };
        let (least, most) = wills_expected(history, story, conn, will.delay);
        for session in living(story) {
            if session
                .subs
                .get(&will.message.topic.into())
                .is_none_or(|since| *since > conn.begin)
            {
                continue;
            }
            let count = session
                .delivered
                .iter()
                .filter(|(_, message)| message.id == will.message.id && !message.retain)
                .count();
            if count < least || count > most {
                let token = conn.token;
                found.push(format!(
                    "C4: the will {} of {token:?} came {count} times to client {}, not {least} to {most}",
                    will.message.id, session.cid
                ));
            }
        }
    }
}

/// Who connected last has the client, and nothing happens on connections from before.
fn one_owner(history: &[Seen], story: &Story, found: &mut Vec<String>) {
    let claims: Vec<Token> = claims(history);
    let order = |token: Token| claims.iter().position(|claim| *claim == token);
    for (id, conn) in story
        .conns
        .iter()
        .filter(|(_, conn)| !story.is_before_order(conn.begin))
    {
        let lost = story
            .conns
            .values()
            .filter(|other| other.cid == conn.cid && other.begin > conn.begin);
        let Some(next) = lost.min_by_key(|other| other.begin) else {
            continue;
        };
        if order(next.token) < order(conn.token) {
            found.push(format!(
                "C2: {:?} won over {:?}, which came later",
                next.token, conn.token
            ));
        }
        let since = next.begin;
        for (_, event) in &history[since..] {
            match event {
                Event::Written { conn } if conn == id => found.push(format!("C2: written to {conn}, which has lost")),
                Event::Acked { id: message, conn } if conn == id && is_read_after(story, *message, *conn, since) => {
                    found.push(format!("C2: {message} was acknowledged on {conn}, which had lost"));
                }
                _ => {}
            }
        }
    }
}

fn is_read_after(story: &Story, message: u32, conn: u64, since: usize) -> bool {
    let reads = story.messages.get(&message).map(|publication| &publication.reads);
    reads.is_some_and(|reads| reads.iter().filter(|(_, by)| *by == conn).all(|(at, _)| *at > since))
}

fn claims(history: &[Seen]) -> Vec<Token> {
    let claims = history.iter().filter_map(|(_, event)| match event {
        Event::Claimed { token } => Some(*token),
        _ => None,
    });
    claims.collect()
}

/// Nobody is declared dead who was heard within a lease; Redis must have answered throughout one.
fn deaths_are_deaths(history: &[Seen], found: &mut Vec<String>) {
    let mut beats: BTreeMap<Inc, Vec<Time>> = BTreeMap::new();
    let mut outages: Vec<(Time, Time)> = Vec::new();
    let mut down = 0;
    for (time, event) in history {
        match event {
            Event::Beat { inc } => beats.entry(*inc).or_default().push(*time),
            Event::FailedOver {
                since,
                loses_beats: true,
            } => beats.values_mut().for_each(|beats| beats.retain(|beat| beat < since)),
            Event::RedisDown => down = *time,
            // Shorter ones can't be told from slow answers.
            Event::RedisUp if *time >= down + LEASE => outages.push((down, *time)),
            Event::Dead { inc } => {
                let beat = beats.get(inc).and_then(|beats| beats.last()).copied().unwrap_or(0);
                if longest_silence(beat, *time, &outages) < LEASE {
                    found.push(format!(
                        "C7: I{inc} was declared dead at {time}, outages: {outages:?}, heard at {beat}"
                    ));
                }
            }
            _ => {}
        }
    }
}

/// The longest time between the two in which Redis was there.
fn longest_silence(from: Time, to: Time, outages: &[(Time, Time)]) -> Time {
    let mut since = from;
    let mut longest = 0;
    for (down, up) in outages.iter().filter(|(_, up)| *up > from) {
        longest = longest.max(down.saturating_sub(since));
        since = *up;
    }
    longest.max(to.saturating_sub(since))
}

fn retained_alike(history: &[Seen], story: &Story, found: &mut Vec<String>) {
    let mut values: BTreeMap<Topic, u32> = BTreeMap::new();
    for (_, event) in history {
        let Event::Retained { on, topic, id } = event else {
            continue;
        };
        let value = *values.entry(*topic).or_insert(*id);
        if value != *id {
            found.push(format!("C6: topic {topic} retains {value} in Redis and {id} on {on:?}"));
        }
    }
    for (topic, id) in values {
        let Some(since) = retained_since(history, story, id).filter(|_| !story.is_old(id)) else {
            continue;
        };
        let later = story
            .messages
            .values()
            .filter(|other| other.message.topic == topic && other.message.retain);
        for other in later.filter(|other| other.sent > since && other.acked.is_some()) {
            found.push(format!(
                "C6: topic {topic} retains {id}, and {} was sent after it",
                other.message.id
            ));
        }
    }
    living(story).for_each(|session| retained_arrives(story, session, found));
}

/// From when on it is the message of its topic until there is a later one: QoS 1 may be published again until it is acknowledged, the rest
/// has effect once.
fn retained_since(history: &[Seen], story: &Story, id: u32) -> Option<usize> {
    if let Some(publication) = story.messages.get(&id)
        && publication.message.qos == Qos::One
    {
        return publication.acked.map(|(at, _)| at);
    }
    let is_it = |event: &Event| matches!(event, Event::Retains { id: retained } if *retained == id);
    let retained = history.iter().position(|(_, event)| is_it(event));
    // A will comes before what its client publishes later.
    let of_will = |conn: &&Connection| conn.will.is_some_and(|will| will.message.id == id);
    let back = story.conns.values().find(of_will).and_then(|conn| next_of(story, conn));
    retained.into_iter().chain(back).min()
}

/// Who subscribes gets what was retained before, or what came later.
fn retained_arrives(story: &Story, session: &Session, found: &mut Vec<String>) {
    for (filter, asked) in session.asked.iter().filter(|(filter, _)| filter.group.is_none()) {
        let retained = story
            .messages
            .values()
            .filter(|other| other.message.topic == filter.topic && other.message.retain);
        let retained: Vec<_> = retained.collect();
        let before = retained
            .iter()
            .filter(|other| other.acked.is_some_and(|(at, _)| at < *asked));
        let newest = before.max_by_key(|other| other.sent);
        let Some(newest) = newest.filter(|newest| !story.is_before_order(newest.sent)) else {
            continue;
        };
        let is_will = |message: &Message| message.topic == filter.topic && !story.messages.contains_key(&message.id);
        let is_fresh = |message: &Message| {
            let mut retained = retained.iter();
            is_will(message) || retained.any(|other| other.message.id == message.id && other.sent >= newest.sent)
        };
        if session.subs.contains_key(filter) && !session.delivered.iter().any(|(_, message)| is_fresh(message)) {
            let id = newest.message.id;
            found.push(format!(
                "C6: client {} subscribed and did not get {id} or a later one",
                session.cid
            ));
        }
    }
}
