//! Whether each will was published as often as it had to be.

use super::history::History;
use super::messages::Delivery;
use super::{Place, Rule, Violation};
use crate::event::{NEVER, Name, Will, World};

/// The will of a connection.
pub struct WillRecord {
    pub topic: Name,
    pub label: Name,
    qos: u8,
    /// Seconds.
    delay: u32,
    /// Session Expiry Interval, in seconds.
    expiry: u32,
    /// Where CONNECT was sent.
    pub connected: Place,
    /// Where CONNACK was received.
    pub(super) accepted: Option<Place>,
    pub(super) end: Option<End>,
    /// Where the broker has said that it ends the connection.
    pub(super) told: Option<Place>,
    /// Where the client connected again, and whether it wanted a new session.
    pub(super) back: Option<(Place, bool)>,
    /// Where that was accepted.
    pub(super) back_accepted: Option<Place>,
}

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By a DISCONNECT that deletes the will.
    Goodbye(Place),
    /// In another way.
    Lost(Place),
}

/// How often a will must be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Never,
    Once,
    /// At most once.
    Maybe,
}

/// Microseconds that a delayed will may be late.
const LATE: u64 = 1_500_000;
/// Microseconds for which a node of a cluster keeps wills when it ends.
const GRACE: u64 = 1_000_000;
/// No round lasts so many microseconds.
const DELAYED: u64 = 50_000_000;
/// Microseconds that it may seem early, since the client learns late that its connection was lost.
const EARLY: u64 = 100_000;

impl WillRecord {
    pub(super) fn new(will: &Will, expiry: u32, place: Place) -> WillRecord {
        WillRecord {
            topic: will.topic.clone(),
            label: will.label.clone(),
            qos: will.qos,
            delay: will.delay,
            expiry,
            connected: place,
            accepted: None,
            end: None,
            told: None,
            back: None,
            back_accepted: None,
        }
    }

    pub(super) fn said_goodbye(&mut self, code: u8, expiry: Option<u32>, place: Place) {
        self.expiry = expiry.unwrap_or(self.expiry);
        self.end = Some(if code == 0 {
            End::Goodbye(place)
        } else {
            End::Lost(place)
        });
    }

    /// Microseconds from the end of the connection to the publication.
    fn wait(&self) -> u64 {
        let expiry = if self.expiry == NEVER { u32::MAX } else { self.expiry };
        u64::from(self.delay.min(expiry)) * 1_000_000
    }
}

/// [`Rule::Will`].
pub(super) fn wills(history: &History<'_>, found: &mut Vec<Violation>) {
    for will in history
        .wills
        .iter()
        .filter(|will| !history.is_before_order(will.connected))
    {
        let times = times(history, will);
        for watcher in history
            .subscriptions
            .iter()
            .filter(|one| one.share().is_none() && one.matches(&will.topic))
        {
            let is_sure = history.lasts(watcher) && history.granted(watcher).is_some_and(|at| at < will.connected);
            let copies: Vec<_> = history
                .deliveries
                .iter()
                .filter(|one| is_copy(one, will, watcher.session))
                .collect();
            let right = match times {
                Times::Never => copies.is_empty(),
                Times::Once => copies.len() == 1 || (copies.is_empty() && !(is_sure && will.qos > 0)),
                Times::Maybe => copies.len() <= 1,
            };
            let (label, client) = (&will.label, &watcher.client);
            if !right {
                let text = format!("{label} came {} times to {client}: {times:?} was due", copies.len());
                found.push(Violation { rule: Rule::Will, text });
            }
            if let Some(copy) = copies.first().filter(|copy| is_early(history, will, copy)) {
                let text = format!(
                    "{label} came to {client} before its delay had passed, at {} us",
                    history.at(copy.place)
                );
                found.push(Violation { rule: Rule::Will, text });
            }
        }
    }
}

fn is_copy(delivery: &Delivery, will: &WillRecord, session: Option<usize>) -> bool {
    delivery.fresh && !delivery.publish.retain && delivery.session == session && delivery.publish.label == will.label
}

fn times(history: &History<'_>, will: &WillRecord) -> Times {
    match (will.accepted, will.end) {
        (None, _) => Times::Maybe,
        (_, None) => Times::Never,
        (_, Some(End::Goodbye(place))) if history.is_doubtful(place) => Times::Maybe,
        (_, Some(End::Goodbye(_))) => Times::Never,
        (_, Some(End::Lost(place))) => times_if_lost(history, will, place),
    }
}

fn times_if_lost(history: &History<'_>, will: &WillRecord, place: Place) -> Times {
    let is_over = |due: u64| history.events.last().is_some_and(|last| last.at >= due);
    let due = due(history, will, place);
    match will.back {
        // A node of a cluster waits at its end for the clients to be back elsewhere.
        Some(_) if history.is_cluster && is_back_in_grace(history, will) => Times::Never,
        Some(_) if history.is_cluster && ends_by_term(history, will, place) => Times::Maybe,
        _ if will.wait() == 0 && is_over(due) => Times::Once,
        _ if will.wait() == 0 => Times::Maybe,
        // At its end, a broker may publish all wills or keep them.
        Some(_) if ends_by_term(history, will, place) => Times::Maybe,
        Some((_, true)) => Times::Once,
        // The session went on in time, if that was accepted; or so late that it does not matter.
        Some((back, false)) if history.at(back) > due => Times::Once,
        Some((back, false)) => {
            let in_time = will
                .back_accepted
                .is_some_and(|at| history.at(at) < history.at(place) + will.wait());
            let until = will.back_accepted.unwrap_or(back);
            if in_time && !history.is_doubtful(until) && !ends_by_fault(history, will, place) {
                Times::Never
            } else {
                Times::Maybe
            }
        }
        None if is_over(due) => Times::Once,
        None => Times::Maybe,
    }
}

/// When it must have been published, if the client does not come back.
fn due(history: &History<'_>, will: &WillRecord, place: Place) -> u64 {
    // A broker that was down counts from its start.
    let last = history
        .starts
        .iter()
        .rev()
        .find(|start| **start > place)
        .copied()
        .unwrap_or(place);
    let grace = match history.is_cluster && ends_by_term(history, will, place) {
        true => GRACE,
        false => 0,
    };
    history.at(last.max(place)) + will.wait().max(grace) + LATE
}

fn ends_by_term(history: &History<'_>, will: &WillRecord, place: Place) -> bool {
    // A node of a cluster may keep a connection, or have to release its client, longer than the client knows.
    let until = will
        .back_accepted
        .filter(|_| history.is_cluster)
        .unwrap_or(place)
        .max(place);
    let within = |at: Place| at > will.connected && at < until;
    history
        .faults
        .iter()
        .any(|(at, world)| *world == World::Term && within(*at))
}

/// Whether the node has said that it ends, nothing else was wrong meanwhile, and the client was accepted elsewhere within the grace.
fn is_back_in_grace(history: &History<'_>, will: &WillRecord) -> bool {
    let (Some(told), Some(back)) = (will.told, will.back_accepted) else {
        return false;
    };
    let mut since = history
        .faults
        .iter()
        .filter(|(at, _)| *at > will.connected && *at < back);
    match (since.next(), since.next()) {
        // The grace counts from the release, which comes behind the signal.
        (Some((term, World::Term)), None) => {
            *term < told && !history.is_troubled(*term) && history.at(back) < history.at(*term) + GRACE
        }
        _ => false,
    }
}

/// Whether the connection to a node of a cluster may have ended long before the client was told.
fn ends_by_fault(history: &History<'_>, will: &WillRecord, place: Place) -> bool {
    let since = history.faults.iter().any(|(at, _)| *at > will.connected && *at < place);
    history.is_cluster && will.wait() < DELAYED && (since || history.is_troubled(place))
}

fn is_early(history: &History<'_>, will: &WillRecord, copy: &Delivery) -> bool {
    let Some(End::Lost(place)) = will.end else {
        return false;
    };
    let ended_by_client = will.back.is_some_and(|(_, clean)| clean);
    let came = history.at(copy.place) + EARLY;
    let is_known = !ended_by_client && !ends_by_term(history, will, place) && !ends_by_fault(history, will, place);
    is_known && came < history.at(place) + will.wait()
}
