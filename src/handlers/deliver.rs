//! From the outbox to the client: PUBLISH to a client (section 3.3).

use std::sync::Arc;

use super::{Client, trace};
use crate::codec::encode::{self, AckKind, PublishFrame};
use crate::codec::frame;
use crate::hooks::ForwardVerdict;
use crate::message::Message;
use crate::packet::QoS;
use crate::reason::ReasonCode;
use crate::session::{Delivery, Extras, Naming, Qos0, Resend, Subscription, Taken, Terms};
use crate::stats::Discard;

impl Client {
    /// Moves messages from the outbox to the output, as many as the client may be sent now.
    ///
    /// What an earlier connection left unacknowledged goes first, in its order [MQTT-4.6.0-1].
    pub(crate) async fn deliver(&mut self, taken: &mut Taken) {
        self.resend();
        while self.session.is_replaying() {
            // Boxed: few connections wait for this at a time, and all have room for what is not.
            if !Box::pin(self.replay()).await {
                return;
            }
        }
        let Some(appetite) = self.appetite() else { return };
        self.session.outbox.take(appetite, taken);
        if self.core.interests.authorize_forward {
            return Box::pin(self.ask_and_deliver(taken)).await;
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
            self.send_new(delivery);
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
    async fn replay(&mut self) -> bool {
        if self.replay_waits || self.appetite().is_none() || self.session.inflight.room(self.window()) == 0 {
            return false;
        }
        let Some(replay) = self.session.current_replay() else {
            return true;
        };
        let subscription = replay.subscription;
        let found = self.core.router.retained.find(replay, self.core.clock.now());
        for message in &found.messages {
            let here = || Some(Arc::from(message.topic()));
            if self.core.interests.authorize_forward {
                // The session knows how far it is: the connection may end while the hook is asked.
                self.session.move_replay(here());
            }
            if !self.send_retained(&subscription, message).await {
                self.session.move_replay(here());
                return false;
            }
        }
        self.session.move_replay(found.next);
        true
    }

    /// Sends a retained message, if there is room for it.
    async fn send_retained(&mut self, subscription: &Subscription, message: &Arc<Message>) -> bool {
        let terms = Terms {
            qos: subscription.options.qos.min(message.qos()),
            // [MQTT3-3.3.1-8]
            retain: true,
            extras: Extras::new(subscription.identifier.map(u32::from).as_slice(), None),
        };
        let delivery = Delivery::new(Arc::clone(message), terms);
        if self.appetite().is_none() || self.session.inflight.room(self.window()) == 0 {
            return false;
        }
        let delivery = if self.core.interests.authorize_forward {
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
            Some(delivery) => self.send_new(delivery),
            None => {}
        }
        true
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
    fn send_new(&mut self, delivery: Delivery) {
        if !self.may_receive(&delivery) {
            return self.give_up(&delivery, Discard::NotAuthorized);
        }
        if delivery.message.has_expired(&self.core.clock) {
            // [MQTT-3.3.2-5]
            return self.give_up(&delivery, Discard::Expired);
        }
        if !self.fits(&delivery) {
            return self.give_up(&delivery, Discard::TooLarge);
        }
        let identifier = self.session.inflight.next_identifier();
        self.send(&delivery, identifier, false);
        self.session.inflight.push(delivery);
    }

    fn give_up(&mut self, delivery: &Delivery, cause: Discard) {
        self.settle(delivery);
        self.session.outbox.count_discard(cause);
    }

    /// Sends again what is unacknowledged [MQTT-4.4.0-1], with DUP set [MQTT-3.3.1-1].
    fn resend(&mut self) {
        while self.session.inflight.is_resending() && self.appetite().is_some() {
            let window = self.window();
            match self.session.inflight.next_resend(window) {
                Some(Resend::Pubrel(identifier)) => {
                    self.acknowledge(AckKind::Pubrel, identifier, ReasonCode::Success, None);
                }
                Some(Resend::Publish(identifier, delivery)) if !self.may_receive(&delivery) => {
                    if let Some(delivery) = self.session.inflight.discard(identifier) {
                        self.give_up(&delivery, Discard::NotAuthorized);
                    }
                }
                Some(Resend::Publish(identifier, delivery)) if self.fits(&delivery) => {
                    self.send(&delivery, identifier, true);
                }
                Some(Resend::Publish(identifier, _)) => {
                    if let Some(delivery) = self.session.inflight.discard(identifier) {
                        self.give_up(&delivery, Discard::TooLarge);
                    }
                }
                None => return,
            }
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
        let start = self.output.len();
        encode::publish(&mut self.output, self.agreed.version, &frame);
        if self.traced {
            let size = self.output.len() - start;
            trace::sent_publish(self, &frame, delivery.message.topic(), size);
        }
    }

    /// Asks the hook about each delivery before it is sent.
    ///
    /// QoS 1 and 2 messages stay in the session while the hook is asked, so that they are still there if the
    /// connection ends meanwhile.
    async fn ask_and_deliver(&mut self, taken: &mut Taken) {
        self.session.forwarding.extend(taken.deliveries.drain(..));
        for item in taken.qos0.drain(..) {
            // With this hook the outbox has no ready-made frames.
            let Qos0::Message(delivery) = item else { continue };
            if let Some(delivery) = self.ask_forward(delivery).await {
                self.send(&delivery, 0, false);
            }
        }
        while self.session.inflight.room(self.window()) > 0 && self.appetite().is_some() {
            let Some(delivery) = self.session.forwarding.front().cloned() else {
                return;
            };
            let allowed = self.ask_forward(delivery).await;
            let Some(asked) = self.session.forwarding.pop_front() else {
                return;
            };
            match allowed {
                Some(delivery) => self.send_new(delivery),
                None => self.settle(&asked),
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
