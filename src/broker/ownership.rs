//! Who owns a session: claims, takeovers, the end of connections and of sessions.
//!
//! ```text
//!   CONNECT, unknown ------> Online <---- CONNECT ----- Offline ---- expired, or CONNECT with Clean Start ----> ended
//!                            |    ^                        ^
//!          CONNECT elsewhere |    | handed over            | connection closed, Session Expiry Interval > 0
//!                            +----+------------------------+
//! ```
//!
//! Invariant: a session is in exactly one hand. [`Owned`] is that hand while a connection lives; dropping it, for
//! whatever reason (also a panic, or an embedding program that drops the future), gives the session to the claimant,
//! to the registry, or ends it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::core::{Core, RouteScratch};
use super::registry::{Entry, Offline};
use super::timers::Due;
use crate::session::{Outbox, Session};
use crate::stats::Discard;
use crate::store::Op;

/// A session in the hand of its connection.
pub(crate) struct Owned {
    core: Arc<Core>,
    /// `None` only while it is being dropped.
    session: Option<Box<Session>>,
}

/// A session for a new connection.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) session: Owned,
    /// Session Present.
    pub(crate) present: bool,
    /// Another session has ended for it.
    pub(crate) replaced: bool,
}

enum Claim {
    New(Owned),
    Stored(Owned),
    Wait(oneshot::Receiver<Owned>),
}

impl Core {
    /// Makes the caller the owner of the session of this Client Identifier, new or resumed.
    ///
    /// A connected client is asked to let go first [MQTT-3.1.4-3]. `None` if yet another connection has claimed the
    /// session meanwhile: the last CONNECT wins.
    pub(crate) async fn claim(self: &Arc<Core>, client_id: &Arc<str>, clean_start: bool) -> Option<Claimed> {
        let existing = match self.begin_claim(client_id) {
            Claim::New(session) => {
                return Some(Claimed {
                    session,
                    present: false,
                    replaced: false,
                });
            }
            Claim::Stored(session) => session,
            Claim::Wait(handover) => handover.await.ok()?,
        };
        // A session that was to end with its connection has ended [MQTT3-3.1.2-6].
        let resumed = !clean_start && existing.is_persistent();
        Some(if resumed { existing.resume() } else { existing.replace() })
    }

    fn begin_claim(self: &Arc<Core>, client_id: &Arc<str>) -> Claim {
        let mut shard = self.registry.shard(client_id);
        match shard.get_mut(client_id) {
            None => {
                let session = Box::new(Session::new(self.new_outbox(Arc::clone(client_id))));
                let outbox = Arc::clone(&session.outbox);
                shard.insert(Arc::clone(client_id), Entry::online(outbox));
                self.registry.went_online();
                Claim::New(Owned::new(self, session))
            }
            Some(Entry::Online { outbox, claimant, .. }) => {
                let (sender, receiver) = oneshot::channel();
                *claimant = Some(sender);
                outbox.signal(|signals| signals.takeover = true);
                Claim::Wait(receiver)
            }
            Some(entry @ Entry::Offline(_)) => {
                let Entry::Offline(offline) = entry else {
                    unreachable!("matched just above")
                };
                let outbox = Arc::clone(&offline.session.outbox);
                let stored = std::mem::replace(entry, Entry::online(outbox));
                let Entry::Offline(offline) = stored else {
                    unreachable!("matched just above")
                };
                if let Some(timer) = offline.timer {
                    self.timers.cancel(timer);
                }
                self.registry.unstored();
                self.registry.went_online();
                let mut session = offline.session;
                if offline.expires_at.is_some_and(|at| at <= self.clock.now()) {
                    // It expired, and the timer has not come to it yet.
                    session.expiry_interval = 0;
                }
                Claim::Stored(Owned::new(self, session))
            }
        }
    }

    /// The connection of a session has ended.
    fn release(self: &Arc<Core>, mut session: Box<Session>) {
        if let Some(cluster) = &self.cluster {
            return self.release_in_cluster(cluster, session);
        }
        if session.outbox.is_condemned() {
            session.expiry_interval = 0;
        }
        self.note_away(&session);
        let immediate = session.will.as_ref().is_some_and(|will| will.delay_interval == 0);
        if immediate || !session.is_persistent() {
            self.take_will(&mut session);
        }
        loop {
            let mut shard = self.registry.shard(session.client_id());
            let claimant = match shard.get_mut(session.client_id()) {
                Some(Entry::Online { outbox, claimant, .. }) if outbox.key == session.outbox.key => claimant.take(),
                _ => None,
            };
            session.outbox.clear_takeover();
            session.outbox.detach();
            if session.outbox.is_condemned() {
                session.expiry_interval = 0;
            }
            let Some(claimant) = claimant else {
                self.registry.went_offline();
                if session.is_persistent() {
                    let client_id = Arc::clone(session.client_id());
                    let offline = self.offline(session);
                    shard.insert(client_id, Entry::Offline(offline));
                    self.registry.stored();
                } else {
                    self.note_end(&mut session);
                    shard.remove(session.client_id());
                    drop(shard);
                    self.end(session);
                }
                return;
            };
            drop(shard);
            match claimant.send(Owned::new(self, session)) {
                Ok(()) => return,
                // The claimant has gone meanwhile: look again whether there is another.
                Err(mut owned) => match owned.session.take() {
                    Some(back) => session = back,
                    None => return,
                },
            }
        }
    }

    fn offline(&self, session: Box<Session>) -> Box<Offline> {
        let now = self.clock.now();
        let interval = session.expiry_interval;
        let mut offline = Box::new(Offline {
            expires_at: (interval != u32::MAX).then(|| now.plus_seconds(interval)),
            will_at: session.will.as_ref().map(|will| now.plus_seconds(will.delay_interval)),
            session,
            timer: None,
        });
        self.arm(&mut offline);
        offline
    }

    pub(super) fn arm(&self, offline: &mut Offline) {
        if let Some(timer) = offline.timer.take() {
            self.timers.cancel(timer);
        }
        offline.timer = offline.next_due().map(|at| {
            self.timers
                .set(at, Due::Session(Arc::clone(offline.session.client_id())))
        });
    }

    /// The timer of an offline session has gone off.
    pub(crate) fn session_due(self: &Arc<Core>, client_id: &str) {
        let now = self.clock.now();
        let mut shard = self.registry.shard(client_id);
        let Some(Entry::Offline(offline)) = shard.get_mut(client_id) else {
            return;
        };
        if offline.expires_at.is_some_and(|at| at <= now) {
            let Some(Entry::Offline(offline)) = shard.remove(client_id) else {
                return;
            };
            drop(shard);
            self.registry.unstored();
            self.stats.expired_sessions.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(client = client_id, "session expired");
            self.end(offline.session);
        } else if offline.will_at.is_some_and(|at| at <= now) {
            offline.will_at = None;
            let will = offline.session.will.take();
            let key = offline.session.outbox.key;
            self.arm(offline);
            drop(shard);
            if let Some(will) = will {
                self.publish_will(will, key, ());
            }
        } else {
            self.arm(offline);
        }
    }

    /// Ends a session: its subscriptions go, its will is due [MQTT-3.1.2-8], and QoS 1 messages of Shared
    /// Subscriptions move to other members.
    pub(super) fn end(self: &Arc<Core>, mut session: Box<Session>) {
        for filter in session.subscriptions.keys() {
            self.router.unsubscribe(filter, session.outbox.key);
        }
        self.take_will(&mut session);
        if session.kept && session.outbox.stored_from().is_some() && session.has_shared_subscriptions() {
            session.expiry_interval = 0;
            return self.end_from_store(session);
        }
        self.finish(*session);
    }

    /// Gives up what an ended session has.
    pub(super) fn finish(&self, session: Session) {
        let mut scratch = RouteScratch::default();
        if let Some(journal) = self.journal.as_ref().filter(|_| session.kept) {
            let uid = session.outbox.key;
            scratch.pen().write(journal, &Op::SessionEnd { uid });
        }
        self.give_up_messages(session, &mut scratch);
    }

    /// What a session still had goes to other members of Shared Subscriptions, or is discarded.
    pub(super) fn give_up_messages(&self, session: Session, scratch: &mut RouteScratch) {
        let Session {
            outbox,
            inflight,
            forwarding,
            ..
        } = session;
        let mut lost = outbox.stored_messages() as u64;
        let queued = outbox.close();
        for delivery in inflight
            .into_unacknowledged()
            .chain(forwarding.into_iter())
            .chain(queued)
        {
            match delivery.share() {
                // They are in the queue of the Shared Subscriptions still.
                _ if delivery.member_place().is_some() => {}
                Some(_) => self.reroute_shared(&delivery, scratch),
                None => lost += 1,
            }
        }
        if lost > 0 {
            tracing::debug!(
                client = &*outbox.client_id,
                messages = lost,
                "discarding messages: their session has ended"
            );
        }
        self.stats.discarded(Discard::SessionEnded, lost);
    }

    fn take_will(self: &Arc<Core>, session: &mut Session) {
        if let Some(will) = session.will.take() {
            self.publish_will(will, session.outbox.key, ());
        }
    }

    /// Ends the session of this client, and its connection with this Reason Code; whether there is one. A connection takes
    /// its session along at once, but after this returns.
    pub(crate) fn end_session(self: &Arc<Core>, client_id: &str, reason: crate::reason::ReasonCode) -> bool {
        let mut shard = self.registry.shard(client_id);
        match shard.get(client_id) {
            None => false,
            Some(Entry::Online { outbox, .. }) => {
                outbox.condemn(reason);
                true
            }
            Some(Entry::Offline(_)) => {
                let Some(Entry::Offline(mut offline)) = shard.remove(client_id) else {
                    unreachable!("matched just above")
                };
                self.note_end(&mut offline.session);
                drop(shard);
                if let Some(timer) = offline.timer {
                    self.timers.cancel(timer);
                }
                self.registry.unstored();
                self.end(offline.session);
                true
            }
        }
    }

    /// Asks the connection of this client to close with this Reason Code; whether the client is connected.
    pub(crate) fn disconnect(&self, client_id: &str, reason: crate::reason::ReasonCode) -> bool {
        let Some(outbox) = self.online_outbox(client_id) else {
            return false;
        };
        outbox.signal(|signals| signals.close = Some(reason));
        true
    }

    /// That of a client that is connected.
    fn online_outbox(&self, client_id: &str) -> Option<Arc<Outbox>> {
        match self.registry.shard(client_id).get(client_id) {
            Some(Entry::Online { outbox, .. }) => Some(Arc::clone(outbox)),
            _ => None,
        }
    }
}

impl Owned {
    /// The hand that has this session, which nobody else has.
    pub(super) fn of(core: &Arc<Core>, session: Box<Session>) -> Owned {
        Owned::new(core, session)
    }

    fn new(core: &Arc<Core>, session: Box<Session>) -> Owned {
        Owned {
            core: Arc::clone(core),
            session: Some(session),
        }
    }

    fn resume(mut self) -> Claimed {
        self.inflight.restart();
        Claimed {
            session: self,
            present: true,
            replaced: false,
        }
    }

    /// Ends the session and starts a new one in its place [MQTT-3.1.2-4].
    fn replace(mut self) -> Claimed {
        let core = Arc::clone(&self.core);
        let outbox = core.new_outbox(Arc::clone(self.client_id()));
        core.install(&outbox);
        let fresh = Box::new(Session::new(outbox));
        if let Some(mut old) = self.session.replace(fresh) {
            core.note_end(&mut old);
            core.end(old);
        }
        Claimed {
            session: self,
            present: false,
            replaced: true,
        }
    }
}

impl Core {
    /// Puts another outbox in the place of a connected client's. Who asked the old one for the session while it was
    /// in nobody's hands asks the new one.
    fn install(&self, fresh: &Arc<Outbox>) {
        let mut shard = self.registry.shard(&fresh.client_id);
        if let Some(Entry::Online { outbox, claimant, .. }) = shard.get_mut(&fresh.client_id) {
            *outbox = Arc::clone(fresh);
            if claimant.is_some() {
                fresh.signal(|signals| signals.takeover = true);
            }
        }
    }
}

impl Deref for Owned {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session
            .as_ref()
            .expect("an owned session is there until it is dropped")
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Session {
        self.session
            .as_mut()
            .expect("an owned session is there until it is dropped")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let core = Arc::clone(&self.core);
            core.release(session);
        }
    }
}

impl std::fmt::Debug for Owned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Owned").field(&self.session).finish()
    }
}
