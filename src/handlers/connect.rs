//! CONNECT (section 3.1) and its answer, CONNACK (section 3.2).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::auth::{self, Dialogue};
use super::client::{Agreed, Client};
use super::{publish, subscribe, trace};
use crate::broker::cluster::Wanted;
use crate::broker::policy::Policy;
use crate::broker::{AedesEvent, Claimed, Core, Owned, RouteScratch};
use crate::codec::decode::ConnectError;
use crate::codec::encode::{self, Connack};
use crate::config::Config;
use crate::events::Event;
use crate::hooks::ConnectRequest;
use crate::identity::{ClientInfo, Peer, Proof};
use crate::packet::{Connect, QoS, Version};
use crate::reason::ReasonCode;
use crate::session::{AliasesIn, AliasesOut, LIVE_IDENTIFIERS, WillMessage, Wire};
use crate::stats::LocalStats;
use crate::store::Receipt;

/// A CONNECT that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The version in which to say so; `None` closes without a word.
    pub(crate) version: Option<Version>,
    pub(crate) reason: ReasonCode,
    pub(crate) detail: &'static str,
    /// The client's Maximum Packet Size.
    pub(crate) limit: Option<u32>,
    /// The Client Identifier, if it has got so far.
    pub(crate) client_id: Option<Box<str>>,
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Refusal {
        match error {
            ConnectError::Close(detail) => Refusal::silent(ReasonCode::ProtocolError, detail),
            ConnectError::Refuse {
                version,
                reason,
                detail,
            } => Refusal {
                version: Some(version),
                reason,
                detail,
                limit: None,
                client_id: None,
            },
        }
    }
}

impl Refusal {
    /// Without a word to the client.
    pub(crate) const fn silent(reason: ReasonCode, detail: &'static str) -> Refusal {
        Refusal {
            version: None,
            reason,
            detail,
            limit: None,
            client_id: None,
        }
    }

    /// In the words that this client understands.
    pub(crate) fn of(connect: &Connect<'_>, reason: ReasonCode, detail: &'static str) -> Refusal {
        Refusal {
            version: Some(connect.version),
            reason,
            detail,
            limit: connect.properties.maximum_packet_size,
            client_id: Some(connect.client_id.into()),
        }
    }

    /// The CONNACK that says so; empty if there is none for it. Session Present is 0 [MQTT-3.2.2-6].
    pub(crate) fn connack(&self) -> Vec<u8> {
        let mut output = Vec::new();
        let Some(version) = self.version else { return output };
        if version.is_v5() || self.reason.connect_return_code().is_some() {
            let connack = Connack {
                reason_string: Some(self.detail),
                ..Connack::new(self.reason, false)
            };
            encode::connack(&mut output, version, &connack, self.limit);
        }
        output
    }
}

/// Accepts a client: checks, hooks, session, CONNACK. The CONNACK is in the output of the client that is returned.
pub(crate) async fn accept(
    core: &Arc<Core>,
    connect: &Connect<'_>,
    peer: Peer,
    dialogue: &mut dyn Dialogue,
) -> Result<Client, Refusal> {
    let refuse = |reason, detail| Refusal::of(connect, reason, detail);
    // Before everything that is looked up.
    let policies = core.policies.generation();
    let policy = core.policies.of(peer.listener.as_deref());
    let policy = policy.ok_or_else(|| refuse(ReasonCode::ServerUnavailable, "the listener is no more"))?;
    check(&policy.config, connect).map_err(|(reason, detail)| refuse(reason, detail))?;
    let expiry = expiry_interval(&policy.config, connect);
    let mut info = client_info(core, connect, peer, &policy);
    if core.memory.is_short() && !core.registry.has(&info.client_id) {
        return Err(refuse(ReasonCode::ServerBusy, "the broker's memory is short"));
    }
    if core.is_store_down() && needs_store(core, connect, &info.client_id, expiry) {
        return Err(refuse(ReasonCode::ServerUnavailable, STORE_DOWN));
    }
    let (access, generation) = (policy.access.clone(), policy.access.generation());
    let authentication = auth::authenticate(core, &access, connect, &mut info, dialogue).await?;
    info.connected_at = core.clock.now();
    let info = Arc::new(info);
    ask_hooks(core, connect, &info)
        .await
        .map_err(|reason| refuse(reason, "refused by the program"))?;
    let claimed = claim(core, connect, &info, expiry).await;
    let Claimed {
        session,
        present,
        replaced,
    } = claimed.ok_or(Refusal::silent(ReasonCode::SessionTakenOver, "session claimed again"))?;
    let mut client = new_client(core, policy, connect, info, session);
    if let Err(error) = core.read_inflight(&mut client.session).await {
        tracing::error!(client = &*client.info.client_id, %error, "the session can't be read");
        return Err(refuse(ReasonCode::ServerUnavailable, "the store can't be read"));
    }
    // The session is in hand: whoever changes the list of those that are traced finds it from now on.
    client.traced = core.trace.covers(&client.info.client_id, &client.info.peer);
    let signature = authentication.put_down(&mut client);
    if present && core.interests.authorize_subscribe {
        subscribe::reauthorize(&mut client).await;
    }
    if present {
        client.narrow();
    }
    if !welcome(&mut client, connect, present, expiry, signature.as_deref()) {
        let detail = "CONNACK above the client's Maximum Packet Size";
        return Err(Refusal::silent(ReasonCode::PacketTooLarge, detail));
    }
    let receipt = take_over(&mut client, connect, expiry, replaced);
    if access.generation() != generation || core.policies.generation() != policies {
        // The rules changed meanwhile, and whoever rechecked the clients may not have seen this one.
        client.session.outbox.signal(|signals| signals.recheck = true);
    }
    if *core.stopping.borrow() {
        // The broker began to shut down meanwhile, and may not have seen this client.
        client
            .session
            .outbox
            .signal(|signals| signals.close = Some(core.farewell()));
    }
    if !is_kept(receipt).await {
        client.drop_will(&mut RouteScratch::default());
        return Err(refuse(ReasonCode::ServerUnavailable, STORE_DOWN));
    }
    core.events.emit(|| Event::Ready(Arc::clone(&client.info)));
    core.tell_aedes(AedesEvent::Connected(&client.info), &mut RouteScratch::default());
    Ok(client)
}

/// Makes the connection the owner of the session; in a cluster, of the client among all nodes.
async fn claim(core: &Arc<Core>, connect: &Connect<'_>, info: &Arc<ClientInfo>, expiry: u32) -> Option<Claimed> {
    let Some(cluster) = &core.cluster else {
        return core.claim(&info.client_id, connect.clean_start).await;
    };
    let will = connect.will.as_ref();
    let wanted = Wanted {
        client_id: Arc::clone(&info.client_id),
        clean_start: connect.clean_start,
        expiry_interval: expiry,
        will: will.map(|will| Box::new(WillMessage::new(will, Arc::clone(info)))),
    };
    Box::pin(core.claim_in_cluster(cluster, wanted)).await
}

/// Who connects, before anything is proven.
fn client_info(core: &Core, connect: &Connect<'_>, peer: Peer, policy: &Policy) -> ClientInfo {
    ClientInfo {
        client_id: if connect.client_id.is_empty() {
            core.identifiers.next()
        } else {
            connect.client_id.into()
        },
        // The certificate proves its name, the CONNECT only claims one.
        username: peer.username.clone().or_else(|| {
            let claimed = connect.username.filter(|_| policy.access.heeds_claims());
            claimed.map(Box::from)
        }),
        version: connect.version,
        peer,
        connected_at: core.clock.now(),
        keep_alive: server_keep_alive(&policy.config, connect).unwrap_or(connect.keep_alive),
        session_expiry: expiry_interval(&policy.config, connect),
        proof: Proof::Nothing,
        rights: None,
    }
}

/// Whether the CONNACK would have to wait for the store.
fn needs_store(core: &Core, connect: &Connect<'_>, client_id: &str, expiry: u32) -> bool {
    core.cluster.is_some()
        || expiry > 0
        || connect.will.is_some()
        || core.registry.has(client_id)
        || core.is_ending(client_id)
}

/// From here on the CONNECT is accepted: before, the session was as its last connection left it. What is to be waited for
/// until that is kept.
fn take_over(client: &mut Client, connect: &Connect<'_>, expiry: u32, replaced: bool) -> Option<Receipt> {
    client.session.expiry_interval = expiry;
    client.session.window = client.agreed.receive_maximum.min(LIVE_IDENTIFIERS / 3 * 2);
    // The will of an earlier connection, if still delayed, is not published [MQTT-3.1.3-9].
    let will = connect.will.as_ref();
    let will = will.map(|will| Box::new(WillMessage::new(will, Arc::clone(&client.info))));
    let had_will = std::mem::replace(&mut client.session.will, will).is_some();
    let core = Arc::clone(&client.core);
    let goes = had_will || replaced || core.is_ending(&client.info.client_id);
    let receipt = core.note_connected(&mut client.session, goes);
    attach(client);
    receipt
}

/// Waits until the session that was there is no more, and the new one is, also for the next process; not for ever.
async fn is_kept(receipt: Option<Receipt>) -> bool {
    match receipt {
        Some(receipt) => tokio::time::timeout(STORE_TIME, receipt.kept()).await.is_ok(),
        None => true,
    }
}

const STORE_DOWN: &str = "the store takes no changes";
/// For which a CONNACK waits for the store.
const STORE_TIME: Duration = Duration::from_secs(10);

fn new_client(
    core: &Arc<Core>,
    policy: Policy,
    connect: &Connect<'_>,
    info: Arc<ClientInfo>,
    session: Owned,
) -> Client {
    let Policy { config, access } = policy;
    let aliases_out = connect.properties.topic_alias_maximum;
    Client {
        core: Arc::clone(core),
        agreed: agree(&config, connect),
        aliases_in: AliasesIn::new(config.topic_alias_maximum),
        aliases_out: AliasesOut::new(aliases_out.min(config.topic_alias_maximum_out)),
        config,
        access,
        info,
        session,
        output: Vec::new(),
        stats: LocalStats::default(),
        last_decision: None,
        checks_reads: false,
        traced: false,
        last_match: None,
        authentication: None,
        replay_waits: false,
        settled: (0, 0),
        held: None,
    }
}

/// From here on messages are put into the outbox as this connection wants them.
fn attach(client: &Client) {
    let limit = client.agreed.maximum_packet_size;
    client.session.outbox.attach(Wire {
        version: client.version(),
        maximum_packet_size: limit.map_or(usize::MAX, |limit| limit as usize),
        frames: client.takes_frames(),
    });
    client.session.outbox.introduce(&client.info);
}

/// What can be refused from the CONNECT and the settings alone.
fn check(config: &Config, connect: &Connect<'_>) -> Result<(), (ReasonCode, &'static str)> {
    check_client_id(config, connect)?;
    if let Some(will) = &connect.will {
        // [MQTT-3.2.2-12]
        if will.qos > config.max_qos {
            return Err((ReasonCode::QoSNotSupported, "Will QoS above the Maximum QoS"));
        }
        // [MQTT-3.2.2-13]
        if will.retain && !config.retain {
            return Err((ReasonCode::RetainNotSupported, "retained messages are turned off"));
        }
        if publish::is_reserved(will.topic) {
            return Err((ReasonCode::NotAuthorized, "$SYS belongs to the broker"));
        }
        if crate::topic::levels(will.topic) > config.max_topic_levels || will.topic.len() > config.max_topic_length {
            return Err((ReasonCode::TopicNameInvalid, "Will Topic has too many bytes or levels"));
        }
    }
    if !connect.version.is_v5()
        && config
            .max_keep_alive
            .is_some_and(|most| exceeds(connect.keep_alive, most))
    {
        return Err((ReasonCode::ClientIdentifierNotValid, "Keep Alive above the maximum"));
    }
    Ok(())
}

fn check_client_id(config: &Config, connect: &Connect<'_>) -> Result<(), (ReasonCode, &'static str)> {
    let invalid = |detail| Err((ReasonCode::ClientIdentifierNotValid, detail));
    if connect.client_id.len() > config.max_client_id_length {
        return invalid("Client Identifier too long");
    }
    if !connect.client_id.is_empty() {
        return Ok(());
    }
    match connect.version {
        Version::V31 => invalid("MQTT 3.1 has no empty Client Identifier"),
        // [MQTT3-3.1.3-8]
        Version::V311 if !connect.clean_start => invalid("empty Client Identifier without Clean Session"),
        _ if !config.empty_client_id => invalid("empty Client Identifiers are turned off"),
        _ => Ok(()),
    }
}

async fn ask_hooks(core: &Core, connect: &Connect<'_>, info: &ClientInfo) -> Result<(), ReasonCode> {
    let Some(hooks) = &core.hooks else { return Ok(()) };
    let request = ConnectRequest {
        client: info,
        password: connect.password,
        clean_start: connect.clean_start,
        keep_alive: connect.keep_alive,
        properties: connect.properties.all,
    };
    let refusal = |reason: ReasonCode| {
        if reason.is_error() {
            reason
        } else {
            ReasonCode::NotAuthorized
        }
    };
    if core.interests.on_connect {
        hooks.on_connect(&request).await.map_err(refusal)?;
    }
    if core.interests.authenticate {
        hooks.authenticate(&request).await.map_err(refusal)?;
    }
    Ok(())
}

/// Seconds for which the session outlives the connection. Without Clean Session an MQTT 3 session is kept for as long
/// as the broker allows [MQTT3-3.1.2-4].
fn expiry_interval(config: &Config, connect: &Connect<'_>) -> u32 {
    let wanted = match (connect.version.is_v5(), connect.clean_start) {
        (true, _) => connect.properties.session_expiry_interval,
        (false, true) => 0,
        (false, false) => u32::MAX,
    };
    cap_expiry(config, wanted)
}

/// A Session Expiry Interval within what the broker allows.
pub(super) fn cap_expiry(config: &Config, seconds: u32) -> u32 {
    config.session_expiry_cap.map_or(seconds, |cap| seconds.min(cap))
}

fn agree(config: &Config, connect: &Connect<'_>) -> Agreed {
    let keep_alive = server_keep_alive(config, connect).unwrap_or(connect.keep_alive);
    Agreed {
        version: connect.version,
        receive_maximum: connect.properties.receive_maximum.min(config.max_inflight),
        maximum_packet_size: connect.properties.maximum_packet_size,
        problem_information: connect.properties.request_problem_information,
        silence_allowed: (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500)),
        session_survives: connect.properties.session_expiry_interval > 0,
    }
}

/// The Keep Alive that the broker imposes, if the client's is longer than it allows [MQTT-3.1.2-21].
fn server_keep_alive(config: &Config, connect: &Connect<'_>) -> Option<u16> {
    config
        .max_keep_alive
        .filter(|most| connect.version.is_v5() && exceeds(connect.keep_alive, *most))
}

/// Keep Alive 0 is endless.
fn exceeds(keep_alive: u16, most: u16) -> bool {
    keep_alive == 0 || keep_alive > most
}

/// CONNACK with Reason Code 0 [MQTT-3.1.4-5], Session Present as the session is [MQTT-3.2.2-3], and what the broker
/// does otherwise than the specification's defaults say. What the client can do without is left out for a client with a
/// very small Maximum Packet Size; `false` if even the rest is too large for it.
fn welcome(client: &mut Client, connect: &Connect<'_>, present: bool, expiry: u32, signature: Option<&[u8]>) -> bool {
    let config = &client.config;
    // MQTT 3.1 has no Session Present: the bit is reserved there.
    let session_present = present && connect.version != Version::V31;
    let connack = Connack {
        session_expiry_interval: (expiry != connect.properties.session_expiry_interval).then_some(expiry),
        receive_maximum: (config.receive_maximum != u16::MAX).then_some(config.receive_maximum),
        // [MQTT-3.2.2-9]
        maximum_qos: (config.max_qos != QoS::ExactlyOnce).then_some(config.max_qos),
        retain_available: (!config.retain).then_some(false),
        maximum_packet_size: Some(config.max_packet_size),
        // [MQTT-3.2.2-16]
        assigned_client_identifier: connect.client_id.is_empty().then_some(&*client.info.client_id),
        topic_alias_maximum: (config.topic_alias_maximum > 0).then_some(config.topic_alias_maximum),
        server_keep_alive: server_keep_alive(config, connect),
        // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        authentication_method: connect.properties.authentication_method,
        authentication_data: signature,
        ..Connack::new(ReasonCode::Success, session_present)
    };
    let essential = Connack {
        maximum_packet_size: None,
        topic_alias_maximum: None,
        ..connack
    };
    let limit = client.agreed.maximum_packet_size;
    let mut fits = |connack| encode::connack(&mut client.output, connect.version, connack, limit);
    if !fits(&connack) && !fits(&essential) {
        return false;
    }
    client.stats.packets_sent += 1;
    if client.traced {
        trace::sent_connack(client, ReasonCode::Success, session_present);
    }
    client.core.stats.connections.fetch_add(1, Ordering::Relaxed);
    client.core.events.emit(|| Event::Connected(Arc::clone(&client.info)));
    true
}
