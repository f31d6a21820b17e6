//! Sessions in the store: what is written of them, and how a broker goes on with what another left there.

use std::sync::Arc;

use super::core::{Core, RouteScratch};
use super::registry::{Entry, Offline};
use crate::message::NewMessage;
use crate::router::Route;
use crate::session::{
    Delivery, Outbox, Replay, Restored, Reuse, Session, Subscription, TailPage, Topics, WillMessage, delivery_of,
};
use crate::store::{
    Journal, Lane, Op, Page, Pen, Receipt, SessionRecord, Store, StoreError, StoredDelivery, StoredSession,
    StoredSubscription, StoredWill, read_client, write_client,
};
use crate::time::Millis;
use crate::topic::TopicFilter;

/// How much of a queue is read at a time.
const PAGE: Page = Page {
    messages: 512,
    bytes: 512 * 1024,
};

impl Core {
    /// The client has connected: its session is as its CONNECT says. What is to be waited for before the CONNACK: also, if
    /// something `goes`, that an earlier will or session has gone.
    pub(crate) fn note_connected(&self, session: &mut Session, goes: bool) -> Option<Receipt> {
        let journal = self.journal.as_ref()?;
        if self.cluster.is_some() {
            return self.note_connected_in_cluster(journal, session);
        }
        let mut scratch = RouteScratch::default();
        if session.is_persistent() && !session.kept {
            session.kept = true;
            session.inflight.keep();
            session.reuse = Some(Box::default());
            session.outbox.keep(journal);
        }
        let pen = scratch.pen();
        if session.kept {
            pen.write(journal, &Op::Session(session.record(None)));
        }
        match &session.will {
            Some(will) => write_will(journal, session.outbox.key, will, pen),
            None if goes => {
                let uid = session.outbox.key;
                pen.write(journal, &Op::WillEnd { uid });
            }
            None => {}
        }
        scratch.pen().receipt()
    }

    /// The same in a cluster: the claim has done the rest.
    fn note_connected_in_cluster(&self, journal: &Arc<Journal>, session: &Session) -> Option<Receipt> {
        let mut scratch = RouteScratch::default();
        if session.kept {
            scratch.pen().write(journal, &Op::Session(session.record(None)));
        }
        scratch.pen().receipt()
    }

    /// Whether a session of this client has ended, and would be there again if the broker were killed now.
    pub(crate) fn is_ending(&self, client_id: &str) -> bool {
        let journal = self.journal.as_ref();
        journal.is_some_and(|journal| self.endings.has(client_id, journal.durable()))
    }

    /// Writes down that the next process is to end the session. To be called before another connection can find that it has
    /// gone.
    pub(super) fn note_end(&self, session: &mut Session) {
        session.expiry_interval = 0;
        if let Some(journal) = self.journal.as_ref().filter(|_| session.kept) {
            let mut scratch = RouteScratch::default();
            let record = session.record(Some(self.clock.now()));
            let batch = scratch.pen().write(journal, &Op::Session(record));
            self.endings.note(session.client_id(), batch, journal.durable());
        }
    }

    /// Whether nothing can be kept, and will be soon. In a cluster that is known also while there is nothing to be kept: by the heartbeat.
    pub(crate) fn is_store_down(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_failing())
            || self.cluster.as_ref().is_some_and(|cluster| cluster.is_stale())
    }

    /// The connection has ended, and the session has not.
    pub(super) fn note_away(&self, session: &Session) {
        if let Some(journal) = self.journal.as_ref().filter(|_| session.kept) {
            let mut scratch = RouteScratch::default();
            let record = session.record(Some(self.clock.now()));
            scratch.pen().write(journal, &Op::Session(record));
        }
    }

    /// Reads what was in flight of a session that comes from the store: its client is there again.
    pub(crate) async fn read_inflight(&self, session: &mut Session) -> Result<(), StoreError> {
        let (Some(journal), Some(restored)) = (&self.journal, session.restored.as_deref().copied()) else {
            return Ok(());
        };
        let uid = session.outbox.key;
        let replayed = read_replayed(journal, uid, &restored).await?;
        let live = read_sent(journal, uid, &restored).await?;
        let live_retained = match session.is_replaying() {
            true => self.read_retained(journal, uid, &restored).await?,
            false => Topics::default(),
        };
        // From here on nothing is waited for: it happens once.
        session.restored = None;
        session.leave_out(live_retained);
        for (lane, stored) in replayed.into_iter().chain(live) {
            let (index, before) = (stored.index, stored.before);
            let delivery = delivery_of(stored, lane);
            match (lane, &delivery) {
                (Lane::Live, _) if !session.outbox.pass(index, delivery.as_ref()) => continue,
                (Lane::Live, _) => {}
                (Lane::Replayed, Some(delivery)) => session.outbox.charge(delivery.charge as usize),
                (Lane::Replayed, None) => {}
            }
            session.inflight.restore(lane, index, before, delivery);
        }
        if self.interests.authorize_forward {
            session.forwarding.restored(&session.inflight);
        }
        Ok(())
    }

    /// The topics whose retained message is in the queue: it was retained after the subscription was made.
    async fn read_retained(&self, journal: &Arc<Journal>, uid: u64, restored: &Restored) -> Result<Topics, StoreError> {
        let mut topics = Topics::default();
        let mut from = restored.live.first;
        while from < restored.live.next {
            let read = journal.read_queue(uid, Lane::Live, from, PAGE).await?;
            from = read.last().map_or(u64::MAX, |last| last.index + 1);
            let messages = read.into_iter().filter_map(|stored| stored.message);
            let retained = messages.filter(|stored| self.router.retained.has(&stored.message));
            topics.extend(retained.map(|stored| Box::from(stored.message.topic())));
        }
        Ok(topics)
    }

    /// Reads more of the queue into memory.
    pub(crate) async fn read_queue(&self, outbox: &Arc<Outbox>, page: TailPage) -> Result<(), StoreError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let read = match journal.read_queue(outbox.key, Lane::Live, page.from, PAGE).await {
            Ok(read) => read,
            Err(error) => {
                outbox.look();
                return Err(error);
            }
        };
        // A page ends by its bytes, too: only an empty one says that there is no more, or a short one.
        let bytes: usize = read.iter().map(StoredDelivery::bytes).sum();
        let is_short = outbox.is_shared() && read.len() < PAGE.messages && bytes < PAGE.bytes;
        let is_last = read.is_empty() || is_short;
        let mut scratch = RouteScratch::default();
        outbox.loaded(page, deliveries(read), is_last, scratch.pen());
        Ok(())
    }

    /// Ends a session whose queue is in the store, and has messages that other members of a Shared Subscription may take.
    pub(super) fn end_from_store(self: &Arc<Core>, session: Box<Session>) {
        let core = Arc::clone(self);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.finish(*session);
        };
        let receipt = self.note_ending(&session);
        runtime.spawn(async move {
            // Then all is kept that is in the queue, and so will be read.
            if let Some(receipt) = receipt {
                receipt.kept().await;
            }
            core.share_stored(&session.outbox).await;
            core.finish(*session);
        });
    }

    /// The next process is to end the session, if this one does not come to it.
    fn note_ending(&self, session: &Session) -> Option<Receipt> {
        let mut scratch = RouteScratch::default();
        let record = session.record(Some(self.clock.now()));
        scratch.pen().write(self.journal.as_ref()?, &Op::Session(record));
        scratch.pen().receipt()
    }

    async fn share_stored(&self, outbox: &Arc<Outbox>) {
        let (Some(journal), Some(mut from)) = (&self.journal, outbox.stored_from()) else {
            return;
        };
        loop {
            let read = match journal.read_queue(outbox.key, Lane::Live, from, PAGE).await {
                Ok(read) => read,
                Err(error) => {
                    let client = &*outbox.client_id;
                    return tracing::error!(client, %error, "messages of a shared subscription are lost: they can't be read");
                }
            };
            let Some(last) = read.last() else { return };
            from = last.index + 1;
            let mut scratch = RouteScratch::default();
            for (index, delivery) in deliveries(read) {
                if delivery.share().is_some() {
                    let (uid, lane) = (outbox.key, Lane::Live);
                    scratch.pen().write(journal, &Op::Done { uid, lane, index });
                    self.reroute_shared(&delivery, &mut scratch);
                }
            }
        }
    }

    /// Goes on with what is in the store. Blocks. To be called before there are clients.
    pub(crate) fn restore(self: &Arc<Core>) -> Result<(), StoreError> {
        let Some(journal) = self.journal.clone().filter(|_| self.cluster.is_none()) else {
            return Ok(());
        };
        let store = journal.store();
        self.restore_retained(store.as_ref())?;
        let mut ended = Vec::new();
        let mut last = 0;
        store.sessions(&mut |stored| {
            last = last.max(stored.uid);
            if let Some(session) = self.restore_session(&journal, stored) {
                ended.push(session);
            }
        })?;
        let mut wills = Vec::new();
        store.wills(&mut |stored| {
            last = last.max(stored.uid);
            wills.push(stored);
        })?;
        self.keys_from(last + 1);
        for will in wills {
            self.restore_will(will)?;
        }
        // Their wills are published with those of sessions that are no more.
        ended.into_iter().for_each(|session| self.end(session));
        Ok(())
    }

    fn restore_retained(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.retained(&mut |message| {
            self.router.retained.restore(message);
        })?;
        self.arm_retained_sweep();
        Ok(())
    }

    /// Puts a session back; or returns it, if it is to end now.
    fn restore_session(self: &Arc<Core>, journal: &Arc<Journal>, stored: StoredSession) -> Option<Box<Session>> {
        let now = self.clock.now();
        let outbox = self.outbox_of(stored.uid, stored.client_id.into());
        let StoredSession { live, replayed, .. } = stored;
        outbox.restore(journal, &live, stored.unsent, stored.window);
        let mut session = Box::new(Session::new(outbox));
        session.kept = true;
        session.expiry_interval = stored.expiry_interval;
        session.window = stored.window;
        session.restored = Some(Box::new(Restored {
            away_since: stored.away_since.unwrap_or(now),
            unsent: stored.unsent,
            window: stored.window,
            live,
            replayed,
        }));
        session.inflight.restore_next(live.first, replayed.first);
        session.reuse = Some(Box::new(Reuse::new(live.first)));
        stored.received.iter().for_each(|id| session.inbound.insert(*id));
        for subscription in stored.subscriptions {
            self.restore_subscription(&mut session, subscription);
        }
        let away_since = stored.away_since.unwrap_or(now);
        let expires_at =
            (session.expiry_interval != u32::MAX).then(|| away_since.plus_seconds(session.expiry_interval));
        if expires_at.is_some_and(|at| at <= now) {
            return Some(session);
        }
        if stored.away_since.is_none() {
            // The client went when the broker did.
            let record = SessionRecord {
                away_since: Some(now),
                unsent: stored.unsent,
                window: stored.window,
                ..session.record(None)
            };
            RouteScratch::default().pen().write(journal, &Op::Session(record));
        }
        self.put_offline(session, expires_at)
    }

    /// Puts the session into the registry. Of two sessions of a client the older one has been replaced: it is returned.
    fn put_offline(&self, session: Box<Session>, expires_at: Option<Millis>) -> Option<Box<Session>> {
        let client_id = Arc::clone(session.client_id());
        let mut shard = self.registry.shard(&client_id);
        if let Some(Entry::Offline(other)) = shard.get(&client_id)
            && other.session.outbox.key > session.outbox.key
        {
            return Some(session);
        }
        let mut offline = Box::new(Offline {
            session,
            expires_at,
            will_at: None,
            timer: None,
        });
        self.arm(&mut offline);
        match shard.insert(client_id, Entry::Offline(offline)) {
            Some(Entry::Offline(replaced)) => {
                if let Some(timer) = replaced.timer {
                    self.timers.cancel(timer);
                }
                Some(replaced.session)
            }
            Some(Entry::Online { .. }) | None => {
                self.registry.stored();
                None
            }
        }
    }

    fn restore_subscription(&self, session: &mut Session, stored: StoredSubscription) {
        let Ok(filter) = TopicFilter::parse(&stored.filter) else {
            return tracing::error!(
                filter = &*stored.filter,
                "a subscription in the store has no valid Topic Filter"
            );
        };
        let subscription = Subscription {
            options: stored.options,
            identifier: std::num::NonZeroU32::new(stored.identifier),
            replay: 0,
        };
        let route = Route::new(Arc::clone(&session.outbox), &filter, &subscription);
        self.router.subscribe(&filter, route);
        session.add_subscription(filter.clone(), subscription);
        if let Some(cursor) = stored.replay {
            let until = self.router.retained.changes();
            let mut replay = Replay::new(filter, subscription, until);
            replay.resume_behind(&cursor);
            session.replay(replay);
        }
    }

    /// A will is due when its delay has passed, counted from when its client went; without a session to wait for it is due
    /// now.
    fn restore_will(self: &Arc<Core>, stored: StoredWill) -> Result<(), StoreError> {
        let damaged = |error: crate::wire::Malformed| StoreError::Damaged(format!("the client of a will: {}", error.0));
        let client = Arc::new(read_client(&stored.client).map_err(damaged)?);
        let will = Box::new(WillMessage {
            message: NewMessage::of_will(&stored.message, stored.expires_in),
            delay_interval: stored.delay_interval,
            client,
        });
        let mut shard = self.registry.shard(&will.client.client_id);
        if let Some(Entry::Offline(offline)) = shard.get_mut(&will.client.client_id)
            && offline.session.outbox.key == stored.uid
        {
            let restored = offline.session.restored.as_ref();
            let went = restored.map_or_else(|| self.clock.now(), |restored| restored.away_since);
            let due = went.plus_seconds(will.delay_interval);
            // What is due is not left to a timer: the client may be back before it goes off.
            if due > self.clock.now() {
                offline.will_at = Some(due);
                offline.session.will = Some(will);
                self.arm(offline);
                return Ok(());
            }
        }
        drop(shard);
        self.publish_will(will, stored.uid, ());
        Ok(())
    }
}

async fn read_replayed(
    journal: &Arc<Journal>,
    uid: u64,
    restored: &Restored,
) -> Result<Vec<(Lane, StoredDelivery)>, StoreError> {
    let mut all = Vec::new();
    let mut from = restored.replayed.first;
    while from < restored.replayed.next {
        let read = journal.read_queue(uid, Lane::Replayed, from, PAGE).await?;
        from = read.last().map_or(u64::MAX, |last| last.index + 1);
        all.extend(read.into_iter().map(|stored| (Lane::Replayed, stored)));
    }
    Ok(all)
}

/// Messages that were sent, or may have been: as many as could be in flight.
async fn read_sent(
    journal: &Arc<Journal>,
    uid: u64,
    restored: &Restored,
) -> Result<Vec<(Lane, StoredDelivery)>, StoreError> {
    let mut all: Vec<(Lane, StoredDelivery)> = Vec::new();
    let mut from = restored.live.first;
    let window = usize::from(restored.window);
    while from < restored.live.next && (from < restored.unsent || all.len() < window) {
        let read = journal.read_queue(uid, Lane::Live, from, PAGE).await?;
        from = read.last().map_or(u64::MAX, |last| last.index + 1);
        for stored in read {
            // Above those that were there at the start, places may be missing that are still to come.
            let is_new = stored.index >= restored.live.next;
            if is_new || (stored.index >= restored.unsent && all.len() >= window) {
                return Ok(all);
            }
            all.push((Lane::Live, stored));
        }
    }
    Ok(all)
}

fn write_will(journal: &Arc<Journal>, uid: u64, will: &WillMessage, pen: &mut Pen) {
    let mut client = Vec::new();
    write_client(&mut client, &will.client);
    let (message, expires_in) = will.message.as_will();
    let op = Op::Will {
        uid,
        delay_interval: will.delay_interval,
        expires_in,
        message,
        client: &client,
    };
    pen.write(journal, &op);
}

fn deliveries(read: Vec<StoredDelivery>) -> Vec<(u64, Delivery)> {
    let live = read.into_iter().filter_map(|stored| {
        let index = stored.index;
        delivery_of(stored, Lane::Live).map(|delivery| (index, delivery))
    });
    live.collect()
}
