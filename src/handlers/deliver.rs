//! From the outbox to the client: PUBLISH to a client (section 3.3).

use std::sync::Arc;

use super::{Client, trace};
use crate::broker::RouteScratch;
use crate::codec::encode::{self, AckKind, PublishFrame};
use crate::codec::frame;
use crate::hooks::ForwardVerdict;
use crate::message::Message;
use crate::packet::QoS;
use crate::reason::ReasonCode;
use crate::session::{
    Acked, Delivery, Extras, Inflight, LIVE_IDENTIFIERS, Naming, Qos0, Resend, Subscription, TailPage, Taken, Terms,
    live_place,
};
use crate::stats::Discard;
use crate::store::{Lane, Op, TermsRecord};
use crate::topic::TopicFilter;

/// Before what could not be read is read again.
const READ_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

impl Client {
    /// Moves messages from the outbox to the output, as many as the client may be sent now.
    ///
    /// What an earlier connection left unacknowledged goes first, in its order [MQTT-4.6.0-1].
    pub(crate) async fn deliver(&mut self, taken: &mut Taken, scratch: &mut RouteScratch) {
        match self.session.forwarding.has_restored() {
            true => Box::pin(self.ask_and_resend(scratch)).await,
            false => self.resend(scratch),
        }
        while self.session.is_replaying() {
            // Boxed: few connections wait for this at a time, and all have room for what is not.
            if !Box::pin(self.replay(scratch)).await {
                return scratch.wake_subscribers();
            }
        }
        if self.session.kept
            && self.appetite_for_live().is_some()
            && let Some(page) = self.session.outbox.tail_page()
        {
            scratch.wake_subscribers();
            Box::pin(self.read_queue(page)).await;
        }
        // Only now: while the queue was read, this node of a cluster may have become one that must send nothing.
        let Some(appetite) = self.appetite_for_live() else {
            return scratch.wake_subscribers();
        };
        self.session.outbox.take(appetite, taken);
        if let Some(from) = taken.from.take().filter(|_| self.session.has_caught_up()) {
            self.session.inflight.skip_to(from);
        }
        if self.core.interests.authorize_forward {
            Box::pin(self.ask_and_deliver(taken, scratch)).await;
            return scratch.wake_subscribers();
        }
        for item in taken.qos0.drain(..) {
            match item {
                Qos0::Frames {
                    bytes,
                    count,
                    payload_bytes,
                } => taken.emptied.extend(self.append_frames(bytes, count, payload_bytes)),
                Qos0::Message(delivery) => self.send(&delivery, 0, false),
            }
        }
        for delivery in taken.deliveries.drain(..) {
            self.send_new(delivery, scratch);
        }
        scratch.wake_subscribers();
    }

    /// Reads more of the queue from the store. If that fails, it is tried again at the next message, or by the next
    /// connection.
    async fn read_queue(&mut self, page: TailPage) {
        if let Err(error) = self.core.read_queue(&self.session.outbox, page).await {
            tracing::error!(client = &*self.info.client_id, %error, "the queue of the session can't be read");
            tokio::time::sleep(READ_AGAIN).await;
        }
    }

    /// Appends them to the output; the buffer, if it is not the output itself now.
    fn append_frames(&mut self, bytes: Vec<u8>, count: u32, payload_bytes: u32) -> Option<Vec<u8>> {
        self.stats.packets_sent += u64::from(count);
        self.stats.publish_sent += u64::from(count);
        self.stats.publish_bytes_sent += u64::from(payload_bytes);
        if self.traced {
            trace::sent_frames(self, count, bytes.len());
        }
        if self.output.is_empty() && bytes.len() > self.output.capacity() {
            self.output = bytes;
            None
        } else {
            self.output.extend_from_slice(&bytes);
            Some(bytes)
        }
    }

    /// Sends some of the retained messages of the subscription whose turn it is; whether there may be more to do now.
    async fn replay(&mut self, scratch: &mut RouteScratch) -> bool {
        if self.holds_answers() {
            // The SUBACK, or retained messages that are being written down.
            return false;
        }
        if self.replay_waits || self.room() == 0 {
            return false;
        }
        if self.core.cluster.is_some() {
            self.session.begin_replay(self.core.router.retained.changes());
        }
        let Some(replay) = self.session.current_replay() else {
            self.record_end_of_replays(scratch);
            return true;
        };
        let subscription = replay.subscription;
        let filter = replay.filter.clone();
        let found = self.core.router.retained.find(replay, self.core.clock.now());
        for message in &found.messages {
            let here = || Some(Arc::from(message.topic()));
            if self.core.interests.authorize_forward {
                // The session knows how far it is: the connection may end while the hook is asked.
                self.session.move_replay(here());
            }
            if !self.send_retained(&filter, &subscription, message, scratch).await {
                self.session.move_replay(here());
                return false;
            }
        }
        if found.next.is_none() {
            self.note(scratch, |uid| Op::ReplayEnd {
                uid,
                filter: filter.as_str(),
            });
        }
        self.session.move_replay(found.next);
        if !self.session.is_replaying() {
            self.record_end_of_replays(scratch);
        }
        true
    }

    /// Sends a retained message, if there is room for it.
    async fn send_retained(
        &mut self,
        filter: &TopicFilter,
        subscription: &Subscription,
        message: &Arc<Message>,
        scratch: &mut RouteScratch,
    ) -> bool {
        let terms = Terms {
            qos: subscription.options.qos.min(message.qos()),
            // [MQTT3-3.3.1-8]
            retain: true,
            extras: Extras::new(subscription.identifier.map(u32::from).as_slice(), None),
        };
        let delivery = Delivery::new(Arc::clone(message), terms);
        if self.room() == 0 {
            return false;
        }
        let delivery = if self.core.interests.authorize_forward {
            scratch.wake_subscribers();
            Box::pin(self.ask_forward(delivery)).await
        } else {
            Some(delivery)
        };
        match delivery {
            Some(delivery) if delivery.qos == QoS::AtMostOnce => self.send(&delivery, 0, false),
            Some(delivery) if !self.charge(&delivery) => {
                self.replay_waits = true;
                return false;
            }
            Some(delivery) if self.session.kept => self.send_replayed(filter, delivery, scratch),
            Some(delivery) => self.send_new(delivery, scratch),
            None => {}
        }
        true
    }

    /// A retained message enters the window of a session that is kept: its identifier is durable before it is sent.
    fn send_replayed(&mut self, filter: &TopicFilter, delivery: Delivery, scratch: &mut RouteScratch) {
        if let Some(cause) = self.reason_to_give_up(&delivery) {
            self.settle(delivery.charge);
            return self.session.outbox.count_discard(cause);
        }
        let (index, identifier) = self.session.inflight.next_replayed();
        let ids: Vec<u8> = delivery
            .subscription_ids()
            .iter()
            .flat_map(|id| id.to_be_bytes())
            .collect();
        let before = self.session.inflight.next_place();
        let terms = TermsRecord {
            qos: delivery.qos,
            retain: delivery.retain,
            subscription_ids: &ids,
            share: None,
        };
        self.record(scratch, |uid| Op::Replayed {
            uid,
            index,
            before,
            filter: filter.as_str(),
            terms,
            message: delivery.message.as_publication(),
        });
        self.hold_message();
        self.send(&delivery, identifier, false);
        self.session.inflight.push_replayed(delivery);
    }

    /// Counts a retained message among those of the session. One alone in flight always fits.
    fn charge(&self, delivery: &Delivery) -> bool {
        let bytes = delivery.charge as usize;
        let fits = self.session.outbox.try_charge(bytes);
        if !fits && self.session.inflight.is_empty() {
            self.session.outbox.charge(bytes);
            return true;
        }
        fits
    }

    /// A QoS 1 or 2 message enters the window.
    fn send_new(&mut self, delivery: Delivery, scratch: &mut RouteScratch) {
        if delivery.identifier != 0 {
            let place = live_place(self.session.inflight.next_place(), delivery.identifier);
            self.session.inflight.skip_to(place);
        }
        if let Some(cause) = self.reason_to_give_up(&delivery) {
            return self.pass(&delivery, cause, scratch);
        }
        let identifier = self.session.inflight.next_identifier();
        self.send(&delivery, identifier, false);
        self.session.inflight.push(delivery);
    }

    #[inline]
    fn reason_to_give_up(&self, delivery: &Delivery) -> Option<Discard> {
        if !self.may_receive(delivery) {
            return Some(Discard::NotAuthorized);
        }
        if delivery.message.has_expired(&self.core.clock) {
            // [MQTT-3.3.2-5]
            return Some(Discard::Expired);
        }
        (!self.fits(delivery)).then_some(Discard::TooLarge)
    }

    /// The next message is not sent: it is finished.
    fn pass(&mut self, delivery: &Delivery, cause: Discard, scratch: &mut RouteScratch) {
        self.settle(delivery.charge);
        self.session.outbox.count_discard(cause);
        self.pass_place(delivery, scratch);
    }

    fn pass_place(&mut self, delivery: &Delivery, scratch: &mut RouteScratch) {
        if let Some(place) = delivery.member_place() {
            return self.note_done_by_member(scratch, place);
        }
        if delivery.identifier != 0 {
            let place = live_place(self.session.inflight.next_place(), delivery.identifier);
            self.session.inflight.skip_to(place + 1);
            self.note_done(scratch, Lane::Live, place);
        }
    }

    /// What was in flight is not sent again: it is finished.
    fn give_up(&mut self, identifier: u16, cause: Discard, scratch: &mut RouteScratch) {
        if self.finish_unsent(identifier, scratch) {
            self.session.outbox.count_discard(cause);
        }
    }

    fn finish_unsent(&mut self, identifier: u16, scratch: &mut RouteScratch) -> bool {
        let discard = |inflight: &mut Inflight| inflight.discard(identifier);
        let acked = self.acknowledged(scratch, identifier, discard);
        if let Acked::Finished(message) = &acked {
            self.settle(message.charge);
        }
        matches!(acked, Acked::Finished(_))
    }

    /// Sends again what is unacknowledged [MQTT-4.4.0-1], with DUP set [MQTT-3.3.1-1].
    fn resend(&mut self, scratch: &mut RouteScratch) {
        while let Some(resend) = self.next_resend() {
            self.send_again(resend, scratch);
        }
    }

    /// The same, where a hook is to be asked about messages that come from the store: nobody knows whether it was, and
    /// what it has said.
    async fn ask_and_resend(&mut self, scratch: &mut RouteScratch) {
        while let Some(resend) = self.next_resend() {
            match resend {
                Resend::Publish(identifier, delivery) if self.session.is_restored(identifier) => {
                    scratch.wake_subscribers();
                    match self.ask_forward(delivery).await {
                        Some(delivery) => self.send_again(Resend::Publish(identifier, delivery), scratch),
                        None => drop(self.finish_unsent(identifier, scratch)),
                    }
                }
                resend => self.send_again(resend, scratch),
            }
        }
    }

    fn next_resend(&mut self) -> Option<Resend> {
        if !self.session.inflight.is_resending() || self.appetite().is_none() || self.is_stale() {
            return None;
        }
        let window = self.window();
        self.session.inflight.next_resend(window)
    }

    fn send_again(&mut self, resend: Resend, scratch: &mut RouteScratch) {
        match resend {
            Resend::Pubrel(identifier) => {
                self.acknowledge(AckKind::Pubrel, identifier, ReasonCode::Success, None);
            }
            Resend::Publish(identifier, delivery) if !self.may_receive(&delivery) => {
                self.give_up(identifier, Discard::NotAuthorized, scratch);
            }
            Resend::Publish(identifier, delivery) if self.fits(&delivery) => self.send(&delivery, identifier, true),
            Resend::Publish(identifier, _) => self.give_up(identifier, Discard::TooLarge, scratch),
        }
    }

    /// Whether the client accepts a packet of that size [MQTT-3.1.2-24].
    fn fits(&self, delivery: &Delivery) -> bool {
        // Without a limit of the client's there is only that of the protocol, which most messages are far from.
        const FAR: usize = 1024 * 1024;
        (self.agreed.maximum_packet_size.is_none() && delivery.message.size() < FAR)
            || self.accepts(&delivery.frame(&self.core.clock))
    }

    fn accepts(&self, frame: &PublishFrame<'_>) -> bool {
        let limit = self.agreed.maximum_packet_size.unwrap_or(frame::MAX_PACKET_SIZE);
        encode::publish_size(self.agreed.version, frame) <= limit as usize
    }

    fn send(&mut self, delivery: &Delivery, identifier: u16, dup: bool) {
        if delivery.qos == QoS::AtMostOnce && !self.may_receive(delivery) {
            return self.session.outbox.count_discard(Discard::NotAuthorized);
        }
        if delivery.qos == QoS::AtMostOnce && delivery.message.has_expired(&self.core.clock) {
            return self.session.outbox.count_discard(Discard::Expired);
        }
        if delivery.qos == QoS::AtMostOnce && !self.fits(delivery) {
            return self.session.outbox.count_discard(Discard::TooLarge);
        }
        self.append_publish(delivery, identifier, dup);
        self.stats.packets_sent += 1;
        self.stats.publish_sent += 1;
        self.stats.publish_bytes_sent += delivery.message.payload().len() as u64;
    }

    fn append_publish(&mut self, delivery: &Delivery, identifier: u16, dup: bool) {
        let mut frame = delivery.frame(&self.core.clock);
        frame.packet_id = identifier;
        frame.dup = dup;
        match self.aliases_out.naming(frame.topic) {
            Naming::Plain => {}
            Naming::Introduce(alias) => {
                frame.topic_alias = Some(alias);
                if self.accepts(&frame) {
                    self.aliases_out.introduced(delivery.message.topic().into(), alias);
                } else {
                    frame.topic_alias = None;
                }
            }
            Naming::Alias(alias) => {
                let aliased = PublishFrame {
                    topic_alias: Some(alias),
                    topic: "",
                    ..frame
                };
                // An alias takes more bytes than a very short topic.
                if self.accepts(&aliased) {
                    frame = aliased;
                }
            }
        }
        let version = self.agreed.version;
        let output = match self.session.kept && delivery.retain && identifier > LIVE_IDENTIFIERS && !dup {
            // See `send_replayed`.
            true => self.answers(),
            false => &mut self.output,
        };
        let start = output.len();
        encode::publish(output, version, &frame);
        let size = output.len() - start;
        if self.traced {
            trace::sent_publish(self, &frame, delivery.message.topic(), size);
        }
    }

    /// Asks the hook about each delivery before it is sent. What was written down does not wait for it.
    ///
    /// QoS 1 and 2 messages stay in the session while the hook is asked, so that they are still there if the
    /// connection ends meanwhile.
    async fn ask_and_deliver(&mut self, taken: &mut Taken, scratch: &mut RouteScratch) {
        self.session.forwarding.extend(taken.deliveries.drain(..));
        for item in taken.qos0.drain(..) {
            // With this hook the outbox has no ready-made frames.
            let Qos0::Message(delivery) = item else { continue };
            scratch.wake_subscribers();
            if let Some(delivery) = self.ask_forward(delivery).await {
                self.send(&delivery, 0, false);
            }
        }
        while self.room() > 0 {
            let Some(delivery) = self.session.forwarding.front().cloned() else {
                return;
            };
            scratch.wake_subscribers();
            let allowed = self.ask_forward(delivery).await;
            let Some(asked) = self.session.forwarding.pop_front() else {
                return;
            };
            match allowed {
                Some(delivery) => self.send_new(delivery, scratch),
                None => {
                    self.settle(asked.charge);
                    self.pass_place(&asked, scratch);
                }
            }
        }
    }

    async fn ask_forward(&self, mut delivery: Delivery) -> Option<Delivery> {
        let Some(hooks) = &self.core.hooks else {
            return Some(delivery);
        };
        match hooks.authorize_forward(&self.info, &delivery.message).await {
            ForwardVerdict::Allow => Some(delivery),
            ForwardVerdict::Rewrite(message) => {
                let publication = message.as_publication(self.core.clock.now());
                delivery.message = Arc::new(Message::new(&publication));
                Some(delivery)
            }
            ForwardVerdict::Discard => {
                self.session.outbox.count_discard(Discard::NotAuthorized);
                None
            }
        }
    }
}
