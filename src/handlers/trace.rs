//! Each packet of a traced client, in the log: what it is, and how large, but no payload, no password, no property.
//!
//! Callers look at [`Client::traced`] first, so that others pay for a look at a flag only.

use super::Client;
use super::connect::Refusal;
use crate::codec::encode::{AckKind, PublishFrame};
use crate::identity::Peer;
use crate::packet::{Connect, Packet, Publish, Subscribe, Unsubscribe};
use crate::reason::ReasonCode;

/// Where all of it is logged.
const TARGET: &str = "mqtt_broker::trace";

/// Filters and codes of one packet that are logged.
const MOST_ITEMS: usize = 20;

impl Client {
    /// Looks again whether it is traced.
    pub(crate) fn retrace(&mut self) {
        let traced = self.core.trace.covers(&self.info.client_id, &self.info.peer);
        if traced != self.traced {
            self.traced = traced;
            self.session.outbox.accept_frames(self.takes_frames());
        }
    }

    /// Whether QoS 0 may come as ready-made packets: not if each message must be seen.
    pub(super) fn takes_frames(&self) -> bool {
        let is_plain = !self.aliases_out.are_used() && !self.core.interests.authorize_forward;
        is_plain && !self.checks_reads && !self.traced
    }
}

pub(crate) fn received_connect(connect: &Connect<'_>, peer: &Peer) {
    tracing::info!(
        target: TARGET,
        client = connect.client_id,
        %peer,
        version = %connect.version,
        clean_start = connect.clean_start,
        keep_alive = connect.keep_alive,
        session_expiry = connect.properties.session_expiry_interval,
        username = connect.username,
        has_password = connect.password.is_some(),
        will_topic = connect.will.as_ref().map(|will| will.topic),
        "received CONNECT"
    );
}

pub(crate) fn refused(connect: &Connect<'_>, refusal: &Refusal) {
    let (client, reason, detail) = (connect.client_id, refusal.reason, refusal.detail);
    tracing::info!(target: TARGET, client, %reason, detail, "refused CONNECT");
}

pub(crate) fn received(client: &Client, packet: &Packet<'_>, size: usize) {
    let client = &*client.info.client_id;
    match packet {
        Packet::Publish(publish) => received_publish(client, publish, size),
        Packet::Puback(ack) => received_ack(client, "PUBACK", ack.packet_id, ack.reason),
        Packet::Pubrec(ack) => received_ack(client, "PUBREC", ack.packet_id, ack.reason),
        Packet::Pubrel(ack) => received_ack(client, "PUBREL", ack.packet_id, ack.reason),
        Packet::Pubcomp(ack) => received_ack(client, "PUBCOMP", ack.packet_id, ack.reason),
        Packet::Subscribe(subscribe) => received_subscribe(client, subscribe, size),
        Packet::Unsubscribe(unsubscribe) => received_unsubscribe(client, unsubscribe, size),
        Packet::Pingreq => tracing::info!(target: TARGET, client, "received PINGREQ"),
        Packet::Disconnect(disconnect) => {
            tracing::info!(target: TARGET, client, reason = %disconnect.reason, "received DISCONNECT");
        }
        Packet::Auth(auth) => {
            tracing::info!(target: TARGET, client, reason = %auth.reason, method = auth.method, "received AUTH");
        }
        Packet::Connect => tracing::info!(target: TARGET, client, "received a second CONNECT"),
    }
}

fn received_publish(client: &str, publish: &Publish<'_>, size: usize) {
    tracing::info!(
        target: TARGET,
        client,
        topic = publish.topic,
        topic_alias = publish.topic_alias,
        qos = publish.qos as u8,
        packet_id = publish.packet_id,
        retain = publish.retain,
        dup = publish.dup,
        payload_bytes = publish.payload.len(),
        size,
        "received PUBLISH"
    );
}

fn received_ack(client: &str, kind: &'static str, packet_id: u16, reason: ReasonCode) {
    tracing::info!(target: TARGET, client, packet_id, %reason, "received {kind}");
}

fn received_subscribe(client: &str, subscribe: &Subscribe<'_>, size: usize) {
    let filters = subscribe.filters.take(MOST_ITEMS);
    let filters: Vec<_> = filters.map(|(filter, options)| (filter, options.qos as u8)).collect();
    let (packet_id, count) = (subscribe.packet_id, subscribe.filters.count());
    tracing::info!(target: TARGET, client, packet_id, ?filters, count, size, "received SUBSCRIBE");
}

fn received_unsubscribe(client: &str, unsubscribe: &Unsubscribe<'_>, size: usize) {
    let filters: Vec<_> = unsubscribe.filters.take(MOST_ITEMS).collect();
    let (packet_id, count) = (unsubscribe.packet_id, unsubscribe.filters.count());
    tracing::info!(target: TARGET, client, packet_id, ?filters, count, size, "received UNSUBSCRIBE");
}

pub(super) fn sent(client: &Client, kind: &'static str) {
    tracing::info!(target: TARGET, client = &*client.info.client_id, "sent {kind}");
}

pub(super) fn sent_connack(client: &Client, reason: ReasonCode, session_present: bool) {
    let client = &*client.info.client_id;
    tracing::info!(target: TARGET, client, %reason, session_present, "sent CONNACK");
}

pub(super) fn sent_ack(client: &Client, kind: AckKind, packet_id: u16, reason: ReasonCode) {
    let kind = match kind {
        AckKind::Puback => "PUBACK",
        AckKind::Pubrec => "PUBREC",
        AckKind::Pubrel => "PUBREL",
        AckKind::Pubcomp => "PUBCOMP",
    };
    let client = &*client.info.client_id;
    tracing::info!(target: TARGET, client, packet_id, %reason, "sent {kind}");
}

/// SUBACK or UNSUBACK.
pub(super) fn sent_codes(client: &Client, kind: &'static str, packet_id: u16, codes: &[ReasonCode]) {
    let client = &*client.info.client_id;
    let count = codes.len();
    let codes = codes
        .iter()
        .take(MOST_ITEMS)
        .map(|code| format!("0x{:02x}", *code as u8));
    let codes = codes.collect::<Vec<_>>().join(" ");
    tracing::info!(target: TARGET, client, packet_id, codes, count, "sent {kind}");
}

/// `topic` is what a Topic Alias in the frame stands for.
pub(super) fn sent_publish(client: &Client, frame: &PublishFrame<'_>, topic: &str, size: usize) {
    tracing::info!(
        target: TARGET,
        client = &*client.info.client_id,
        topic,
        topic_alias = frame.topic_alias,
        qos = frame.qos as u8,
        packet_id = frame.packet_id,
        retain = frame.retain,
        dup = frame.dup,
        payload_bytes = frame.payload.len(),
        size,
        "sent PUBLISH"
    );
}

/// Packets that were made before the client was traced.
pub(super) fn sent_frames(client: &Client, count: u32, size: usize) {
    let client = &*client.info.client_id;
    tracing::info!(target: TARGET, client, count, size, "sent PUBLISH packets that had waited");
}

pub(crate) fn sent_disconnect(client: &Client, reason: ReasonCode) {
    tracing::info!(target: TARGET, client = &*client.info.client_id, %reason, "sent DISCONNECT");
}
