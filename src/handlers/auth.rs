//! AUTH (section 3.15): enhanced authentication (section 4.12), by SCRAM-SHA-256.
//!
//! ```text
//! CONNECT method, client first     ->
//!                                  <-  AUTH 0x18 server first
//! AUTH 0x18 client last            ->
//!                                  <-  CONNACK server last
//!
//! AUTH 0x19 method, client first   ->      on a connection that has begun so, at any time
//!                                  <-  AUTH 0x18 server first
//! AUTH 0x18 client last            ->
//!                                  <-  AUTH 0x00 server last
//! ```

use std::pin::Pin;
use std::time::Duration;

use super::connect::Refusal;
use super::{Client, Closing};
use crate::access::Access;
use crate::access::scram::{Exchange, METHOD};
use crate::broker::Core;
use crate::codec::{decode, encode, frame};
use crate::identity::ClientInfo;
use crate::packet::{Auth, Connect, Packet, Version};
use crate::reason::ReasonCode;
use crate::stats::LocalStats;
use crate::time::Millis;

/// Asks a client that is not accepted yet. Handlers do no input or output themselves.
pub(crate) trait Dialogue: Send {
    /// Sends this packet, and waits for one.
    fn ask(&mut self, packet: Vec<u8>) -> Answer<'_>;
}

/// A whole packet, or why there is none.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Refusal>> + Send + 'a>>;

/// What is left of authentication after the CONNECT.
#[derive(Debug, Default)]
pub(crate) struct Authentication {
    /// Whether the CONNECT had an Authentication Method; there is one only.
    has_method: bool,
    /// A re-authentication that has begun.
    exchange: Option<Exchange>,
    /// When the client is to go.
    expires: Option<Millis>,
}

/// What came out of the authentication of a CONNECT.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    authentication: Authentication,
    /// What proves the broker to the client.
    signature: Option<Vec<u8>>,
    traffic: LocalStats,
}

impl Outcome {
    /// Leaves with the client what is still needed; returns the data for its CONNACK.
    pub(super) fn put_down(self, client: &mut Client) -> Option<Vec<u8>> {
        let Authentication {
            has_method, expires, ..
        } = self.authentication;
        if has_method || expires.is_some() {
            client.authentication = Some(Box::new(self.authentication));
        }
        client.stats = self.traffic;
        self.signature
    }
}

impl Client {
    /// When its authentication will have expired.
    pub(crate) fn expires(&self) -> Option<Millis> {
        self.authentication.as_ref()?.expires
    }
}

/// Finds out who the client is, by its CONNECT and, if that has an Authentication Method, by more.
pub(super) async fn authenticate(
    core: &Core,
    access: &Access,
    connect: &Connect<'_>,
    client: &mut ClientInfo,
    dialogue: &mut dyn Dialogue,
) -> Result<Outcome, Refusal> {
    if let Some(method) = connect.properties.authentication_method {
        return exchange(access, connect, method, client, dialogue).await;
    }
    let known = access.authenticate(client, connect.password).await;
    let holds_for = known.map_err(|reason| refuse(connect, reason))?;
    let mut outcome = Outcome::default();
    outcome.authentication.expires = holds_for.map(|time: Duration| core.clock.now().plus(time));
    Ok(outcome)
}

/// [MQTT-4.12.0-2] to [MQTT-4.12.0-5]
async fn exchange(
    access: &Access,
    connect: &Connect<'_>,
    method: &str,
    client: &mut ClientInfo,
    dialogue: &mut dyn Dialogue,
) -> Result<Outcome, Refusal> {
    let refuse = |reason| refuse(connect, reason);
    let data = connect.properties.authentication_data.unwrap_or_default();
    let begun = access.begin_scram(client, method, data);
    let (exchange, challenge) = begun.map_err(refuse)?;
    let mut traffic = LocalStats::default();
    let question = challenge_packet(&challenge, connect.properties.maximum_packet_size);
    let question = question.ok_or(Refusal::silent(ReasonCode::PacketTooLarge, TOO_LARGE))?;
    traffic.packets_sent += 1;
    traffic.bytes_sent += question.len() as u64;
    let packet = dialogue.ask(question).await?;
    traffic.packets_received += 1;
    traffic.bytes_received += packet.len() as u64;
    let message = answer(connect, &packet)?;
    let username = exchange.username().into();
    let signature = access.finish_scram(client, exchange, message).map_err(refuse)?;
    access.accept_scram(client, username).map_err(refuse)?;
    Ok(Outcome {
        authentication: Authentication {
            has_method: true,
            ..Authentication::default()
        },
        signature: Some(signature.into_bytes()),
        traffic,
    })
}

const TOO_LARGE: &str = "AUTH above the client's Maximum Packet Size";

/// [MQTT-4.12.0-2]
fn challenge_packet(challenge: &str, limit: Option<u32>) -> Option<Vec<u8>> {
    let (mut packet, reason) = (Vec::new(), ReasonCode::ContinueAuthentication);
    encode::auth(&mut packet, reason, METHOD, Some(challenge.as_bytes()), None, limit).then_some(packet)
}

/// The data of the AUTH that the client must answer with [MQTT-4.12.0-3]; until its CONNACK it may send nothing else but
/// DISCONNECT [MQTT-3.1.2-30].
fn answer<'a>(connect: &Connect<'_>, packet: &'a [u8]) -> Result<&'a [u8], Refusal> {
    let malformed = || Refusal::of(connect, ReasonCode::MalformedPacket, "the answer to AUTH is malformed");
    let frame = frame::parse(packet, u32::MAX).ok().flatten().ok_or_else(malformed)?;
    match decode::packet(Version::V5, &frame).map_err(|_| malformed())? {
        Packet::Auth(auth) if auth.reason == ReasonCode::ContinueAuthentication && auth.method == Some(METHOD) => {
            Ok(auth.data.unwrap_or_default())
        }
        Packet::Disconnect(_) => Err(Refusal::silent(
            ReasonCode::Success,
            "the client has gone instead of an answer",
        )),
        _ => {
            let detail = "only AUTH 0x18 with the method of the CONNECT may come before CONNACK";
            Err(Refusal::of(connect, ReasonCode::ProtocolError, detail))
        }
    }
}

/// [MQTT-4.12.0-1] [MQTT-4.12.0-4]
fn refuse(connect: &Connect<'_>, reason: ReasonCode) -> Refusal {
    let detail = match reason {
        ReasonCode::ClientIdentifierNotValid => "the Client Identifier is not for this client",
        ReasonCode::BadAuthenticationMethod => "Authentication Method not supported",
        ReasonCode::ServerUnavailable => "who decides about this client can't be asked",
        ReasonCode::ServerBusy => "too many clients are being checked",
        ReasonCode::ConnectionRateExceeded => "too many attempts from this address",
        _ if connect.properties.authentication_method.is_some() => "the authentication has failed",
        _ => "user name and password, or their lack, are not accepted",
    };
    Refusal::of(connect, reason, detail)
}

/// AUTH of a connected client: re-authentication. Meanwhile the connection goes on as it was.
pub(super) fn handle(client: &mut Client, auth: &Auth<'_>) -> Result<(), Closing> {
    // [MQTT-4.12.0-7]
    let Some(state) = client.authentication.as_mut().filter(|state| state.has_method) else {
        return Err(Closing::protocol_error(
            "AUTH without an Authentication Method in CONNECT",
        ));
    };
    // [MQTT-4.12.1-1]
    if auth.method != Some(METHOD) {
        return Err(Closing::protocol_error("AUTH with another method than the CONNECT"));
    }
    let data = auth.data.unwrap_or_default();
    let (reason, data) = match (auth.reason, state.exchange.take()) {
        (ReasonCode::ReAuthenticate, None) => {
            let begun = client.access.begin_scram(&client.info, METHOD, data);
            let (exchange, challenge) = begun.map_err(failed)?;
            state.exchange = Some(exchange);
            (ReasonCode::ContinueAuthentication, challenge)
        }
        (ReasonCode::ReAuthenticate, Some(_)) => {
            return Err(Closing::protocol_error("AUTH 0x19 within an authentication"));
        }
        (_, Some(exchange)) => {
            let finished = client.access.finish_scram(&client.info, exchange, data);
            (ReasonCode::Success, finished.map_err(failed)?)
        }
        (_, None) => return Err(Closing::protocol_error("AUTH 0x18 that answers nothing")),
    };
    let limit = client.agreed.maximum_packet_size;
    if !encode::auth(&mut client.output, reason, METHOD, Some(data.as_bytes()), None, limit) {
        return Err(Closing::told(ReasonCode::PacketTooLarge, TOO_LARGE));
    }
    client.stats.packets_sent += 1;
    Ok(())
}

/// [MQTT-4.12.1-2]
fn failed(reason: ReasonCode) -> Closing {
    match reason {
        ReasonCode::ConnectionRateExceeded => Closing::told(reason, "too many attempts from this address"),
        _ => Closing::told(ReasonCode::NotAuthorized, "the re-authentication has failed"),
    }
}
