//! SUBSCRIBE from a client (section 3.8).

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Client, Closing, trace};
use crate::access::Reading;
use crate::broker::{AedesEvent, RouteScratch};
use crate::codec::encode;
use crate::events::Event;
use crate::hooks::SubscribeVerdict;
use crate::packet::{RetainHandling, Subscribe, SubscriptionOptions, Version};
use crate::reason::ReasonCode;
use crate::router::Route;
use crate::session::{Replay, Subscription};
use crate::store::cluster::{ClusterOp, Entry};
use crate::store::{Op, SubscriptionRecord};
use crate::topic::{self, TopicFilter};

/// A subscription that has been granted, and whether it is new to the session.
struct Granted {
    filter: TopicFilter,
    subscription: Subscription,
    is_new: bool,
}

/// Subscribes, answers with one code for each Topic Filter, then sends the retained messages.
pub(super) fn handle(
    client: &mut Client,
    subscribe: &Subscribe<'_>,
    scratch: &mut RouteScratch,
) -> Result<(), Closing> {
    let mut outcomes = Vec::new();
    for (filter, subscription) in parse_all(subscribe)? {
        outcomes.push(grant(client, filter, subscription, scratch));
    }
    finish(client, subscribe, outcomes, scratch)
}

/// [`handle`], with a hook that decides.
pub(super) async fn ask_and_handle(
    client: &mut Client,
    subscribe: &Subscribe<'_>,
    scratch: &mut RouteScratch,
) -> Result<(), Closing> {
    scratch.wake_subscribers();
    let mut outcomes = Vec::new();
    for (filter, subscription) in parse_all(subscribe)? {
        outcomes.push(ask_and_grant(client, filter, subscription, scratch).await);
        scratch.wake_subscribers();
    }
    finish(client, subscribe, outcomes, scratch)
}

fn finish(
    client: &mut Client,
    subscribe: &Subscribe<'_>,
    outcomes: Vec<Result<Granted, ReasonCode>>,
    scratch: &mut RouteScratch,
) -> Result<(), Closing> {
    let code = |outcome: &Result<Granted, ReasonCode>| match outcome {
        Ok(granted) => granted_code(granted.subscription.options),
        Err(reason) => *reason,
    };
    let codes: Vec<_> = outcomes.iter().map(code).collect();
    if codes.iter().any(|code| code.is_error()) {
        log_refusals(client, subscribe, &codes);
    }
    answer(client, subscribe.packet_id, &codes)?;
    let granted: Vec<_> = outcomes.into_iter().flatten().collect();
    for granted in &granted {
        send_retained(client, granted);
    }
    client.note_replays(scratch);
    if !granted.is_empty() {
        client.core.events.emit(|| Event::Subscribed {
            client: Arc::clone(&client.info),
            filters: granted.iter().map(|granted| granted.filter.clone()).collect(),
        });
    }
    let event = AedesEvent::Subscribed(&client.info, subscribe, &codes);
    client.core.tell_aedes(event, scratch);
    Ok(())
}

fn log_refusals(client: &Client, subscribe: &Subscribe<'_>, codes: &[ReasonCode]) {
    let client = &*client.info.client_id;
    let refused = subscribe.filters.zip(codes).filter(|(_, code)| code.is_error());
    for ((filter, _), reason) in refused {
        tracing::debug!(client, filter, %reason, "subscription refused");
    }
}

/// All filters, before anything is done for one of them: a packet with an ill-formed filter has no effect.
fn parse_all(subscribe: &Subscribe<'_>) -> Result<Vec<(TopicFilter, Subscription)>, Closing> {
    let subscription = |options| Subscription {
        options,
        identifier: subscribe.subscription_identifier.and_then(NonZeroU32::new),
        replay: 0,
    };
    let parse = |(text, options)| TopicFilter::parse(text).map(|filter| (filter, subscription(options)));
    let parsed = subscribe.filters.map(parse).collect::<Result<_, _>>();
    parsed.map_err(|error| Closing::told(ReasonCode::TopicFilterInvalid, error.to_string()))
}

async fn ask_and_grant(
    client: &mut Client,
    filter: TopicFilter,
    subscription: Subscription,
    scratch: &mut RouteScratch,
) -> Result<Granted, ReasonCode> {
    match ask(client, &filter, subscription.options).await {
        SubscribeVerdict::Allow => grant(client, filter, subscription, scratch),
        SubscribeVerdict::Rewrite(filter, options) => grant(
            client,
            filter,
            Subscription {
                options,
                ..subscription
            },
            scratch,
        ),
        SubscribeVerdict::Refuse(reason) => Err(refusal(reason)),
    }
}

async fn ask(client: &Client, filter: &TopicFilter, options: SubscriptionOptions) -> SubscribeVerdict {
    match &client.core.hooks {
        Some(hooks) => hooks.authorize_subscribe(&client.info, filter, options).await,
        None => SubscribeVerdict::Allow,
    }
}

fn refusal(reason: ReasonCode) -> ReasonCode {
    if reason.is_error() {
        reason
    } else {
        ReasonCode::NotAuthorized
    }
}

/// Puts the subscription in the place of an earlier one with the same Topic Filter [MQTT-3.8.4-3].
fn grant(
    client: &mut Client,
    filter: TopicFilter,
    mut subscription: Subscription,
    scratch: &mut RouteScratch,
) -> Result<Granted, ReasonCode> {
    check_limits(client, &filter)?;
    check_rights(client, &filter)?;
    subscription.options.qos = subscription.options.qos.min(client.config.max_qos);
    begin_routes(client, &filter, &subscription, scratch);
    let is_new = client.session.add_subscription(filter.clone(), subscription);
    let granted = Granted {
        filter,
        subscription,
        is_new,
    };
    client.record(scratch, |uid| Op::Subscribe {
        uid,
        subscription: granted.record(),
    });
    Ok(granted)
}

/// From here on messages are matched with the subscription; in a cluster, on all nodes when that is kept.
fn begin_routes(client: &mut Client, filter: &TopicFilter, subscription: &Subscription, scratch: &mut RouteScratch) {
    let (core, session) = (&client.core, &mut client.session);
    let Some(cluster) = &core.cluster else {
        let route = Route::new(Arc::clone(&session.outbox), filter, subscription);
        return core.router.subscribe(filter, route);
    };
    let before = session.subscriptions.get(filter).copied();
    if session.kept {
        let entry = Entry::Subscribe {
            uid: session.outbox.key,
            client_id: &client.info.client_id,
            subscription: SubscriptionRecord {
                filter: filter.as_str(),
                options: subscription.options,
                identifier: subscription.identifier.map_or(0, u32::from),
                replays: false,
            },
        };
        let op = Op::Cluster(ClusterOp::Log(entry));
        scratch.pen().write(&cluster.journal, &op);
        if filter.share_name().is_some() {
            cluster.note_presence(session.outbox.key, true, scratch);
        }
    } else {
        let route = Route::new(Arc::clone(&session.outbox), filter, subscription);
        core.router.subscribe(filter, route);
        if filter.share_name().is_some() {
            core.change_membership(cluster, session, (filter, subscription), scratch);
        }
    }
    cluster.join_route(filter, subscription, session.has_queue_for(filter), scratch);
    if let Some(before) = before {
        cluster.leave_route(filter, &before, session.has_queue_for(filter), scratch);
    }
}

/// From here on they are not any more.
pub(super) fn end_routes(client: &Client, filter: &TopicFilter, scratch: &mut RouteScratch) {
    let session = &client.session;
    let Some(cluster) = &client.core.cluster else {
        client.core.router.unsubscribe(filter, session.outbox.key);
        return;
    };
    if session.kept {
        let (uid, filter) = (session.outbox.key, filter.as_str());
        let op = Op::Cluster(ClusterOp::Log(Entry::Unsubscribe { uid, filter }));
        scratch.pen().write(&cluster.journal, &op);
    } else {
        client.core.router.unsubscribe(filter, session.outbox.key);
        cluster.leave_group(session, filter, scratch);
    }
    if let Some(subscription) = session.subscriptions.get(filter) {
        cluster.leave_route(filter, subscription, session.has_queue_for(filter), scratch);
    }
}

impl Granted {
    /// Whether its retained messages are to be sent, as Retain Handling says; never for Shared Subscriptions (section
    /// 4.8.2).
    fn wants_retained(&self) -> bool {
        let wanted = match self.subscription.options.retain_handling {
            // [MQTT-3.3.1-9], [MQTT-3.8.4-4]
            RetainHandling::SendAlways => true,
            // [MQTT-3.3.1-10]
            RetainHandling::SendIfNew => self.is_new,
            // [MQTT-3.3.1-11]
            RetainHandling::SendNever => false,
        };
        wanted && self.filter.share_name().is_none()
    }

    fn record(&self) -> SubscriptionRecord<'_> {
        SubscriptionRecord {
            filter: self.filter.as_str(),
            options: self.subscription.options,
            identifier: self.subscription.identifier.map_or(0, u32::from),
            replays: self.wants_retained(),
        }
    }
}

/// What is wider than what the client may read is refused, or each of its messages is checked: it must be so before the
/// first of them comes.
fn check_rights(client: &mut Client, filter: &TopicFilter) -> Result<(), ReasonCode> {
    match client.access.reading(&client.info, filter) {
        Reading::All => Ok(()),
        Reading::Some => {
            client.check_reads();
            Ok(())
        }
        Reading::Denied => Err(ReasonCode::NotAuthorized),
    }
}

fn check_limits(client: &Client, filter: &TopicFilter) -> Result<(), ReasonCode> {
    let config = &client.config;
    if filter.filter().len() > config.max_topic_length || topic::levels(filter.filter()) > config.max_topic_levels {
        return Err(ReasonCode::TopicFilterInvalid);
    }
    let subscriptions = &client.session.subscriptions;
    let bytes = client.session.subscription_bytes + filter.as_str().len();
    let is_full = subscriptions.len() >= config.max_subscriptions || bytes > config.max_subscription_bytes;
    if is_full && !subscriptions.contains_key(filter) {
        return Err(ReasonCode::QuotaExceeded);
    }
    Ok(())
}

/// The QoS that was granted [MQTT-3.8.4-7].
fn granted_code(options: SubscriptionOptions) -> ReasonCode {
    ReasonCode::from_u8(options.qos as u8).unwrap_or(ReasonCode::UnspecifiedError)
}

/// SUBACK [MQTT-3.8.4-1], with the codes in the order of the Topic Filters [MQTT-3.9.3-1].
fn answer(client: &mut Client, identifier: u16, codes: &[ReasonCode]) -> Result<(), Closing> {
    if client.version() == Version::V31 && codes.iter().any(|code| code.is_error()) {
        return Err(Closing::told(
            ReasonCode::NotAuthorized,
            "subscription refused, which MQTT 3.1 can't be told",
        ));
    }
    let (version, limit) = (client.agreed.version, client.agreed.maximum_packet_size);
    if !encode::suback(client.answers(), version, identifier, codes, None, limit) {
        return Err(Closing::told(
            ReasonCode::PacketTooLarge,
            "SUBACK above the client's Maximum Packet Size",
        ));
    }
    client.stats.packets_sent += 1;
    if client.traced {
        trace::sent_codes(client, "SUBACK", identifier, codes);
    }
    Ok(())
}

fn send_retained(client: &mut Client, granted: &Granted) {
    if granted.wants_retained() {
        // In a cluster, it is the log that says what was retained before the subscription: how far it has come, is known when
        // the subscription is kept.
        let until = match client.core.cluster {
            None => client.core.router.retained.changes(),
            Some(_) => Replay::NOT_BEGUN,
        };
        client
            .session
            .replay(Replay::new(granted.filter.clone(), granted.subscription, until));
    }
}

/// Asks again for each subscription of a resumed session, and ends or changes those that the hook no longer allows.
pub(super) async fn reauthorize(client: &mut Client) {
    let all: Vec<_> = client
        .session
        .subscriptions
        .iter()
        .map(|(filter, sub)| (filter.clone(), *sub))
        .collect();
    for (filter, subscription) in all {
        match ask(client, &filter, subscription.options).await {
            SubscribeVerdict::Allow => {}
            SubscribeVerdict::Rewrite(other, options) => {
                if other != filter {
                    revoke(client, &filter);
                }
                // Over a limit, the subscription is gone: there is no SUBACK to say so.
                let _ = grant(
                    client,
                    other,
                    Subscription {
                        options,
                        ..subscription
                    },
                    &mut RouteScratch::default(),
                );
            }
            SubscribeVerdict::Refuse(reason) => {
                tracing::info!(client = &*client.info.client_id, filter = filter.as_str(), %reason, "subscription revoked");
                revoke(client, &filter);
            }
        }
    }
}

pub(super) fn revoke(client: &mut Client, filter: &TopicFilter) {
    let mut scratch = RouteScratch::default();
    end_routes(client, filter, &mut scratch);
    client.session.remove_subscription(filter);
    client.note_unsubscribed(filter, &mut scratch);
}
