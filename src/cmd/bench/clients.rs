//! Many clients that connect and subscribe, a bounded number of them at a time.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::net::{Handler, Net};
use super::options::Common;
use crate::client::{self, Connect, Inbound, InboundPublish};
use crate::codec::encode::{self, AckKind};
use crate::packet::{QoS, Version};
use crate::reason::ReasonCode;

/// What a client is to do before the run begins.
#[derive(Debug)]
pub(super) struct Joining {
    client_id: String,
    pub(super) filters: Vec<String>,
}

impl Joining {
    /// A client of the run with this prefix. The name is unique in the run.
    pub(super) fn new(prefix: &str, name: impl Display, filters: Vec<String>) -> Joining {
        Joining {
            client_id: format!("{}-{name}", prefix.replace('/', "-")),
            filters,
        }
    }
}

/// How clients connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) address: SocketAddr,
    /// What clients connect to in turn instead of the port of `address`, if there are any.
    pub(super) ports: &'a [u16],
    pub(super) version: Version,
    pub(super) qos: QoS,
    pub(super) clean: bool,
    pub(super) session_expiry_interval: u32,
    pub(super) keep_alive: u16,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a str>,
}

impl<'a> Terms<'a> {
    pub(super) fn of(common: &'a Common) -> Result<Terms<'a>, String> {
        Ok(Terms {
            address: common.address()?,
            ports: &[],
            version: common.version(),
            qos: common.qos(),
            clean: true,
            session_expiry_interval: 0,
            keep_alive: common.keep_alive,
            username: common.username.as_deref(),
            password: common.password.as_deref(),
        })
    }

    /// The same with a session that lasts longer than any run; MQTT 3.1.1 has only "clean" or not.
    pub(super) fn persistent(self) -> Terms<'a> {
        Terms {
            clean: false,
            session_expiry_interval: 24 * 3600,
            ..self
        }
    }

    fn address_of(&self, number: usize) -> SocketAddr {
        let mut address = self.address;
        if let Some(port) = self.ports.get(number % self.ports.len().max(1)) {
            address.set_port(*port);
        }
        address
    }

    /// Begins the connection of a client with this number, and appends its CONNECT.
    fn connect(&self, net: &mut Net, number: usize, client_id: &str) -> Result<usize, String> {
        let id = net.connect(self.address_of(number))?;
        let connect = Connect {
            version: self.version,
            client_id,
            clean: self.clean,
            keep_alive: self.keep_alive,
            session_expiry_interval: self.session_expiry_interval,
            username: self.username,
            password: self.password.map(str::as_bytes),
            will: None,
            properties: &[],
        };
        client::connect(net.output(id), &connect);
        Ok(id)
    }
}

/// What all handlers have to count while clients join.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) connacks: usize,
    pub(super) subacks: usize,
    /// CONNACKs that spoke of a session.
    pub(super) sessions_present: usize,
}

impl Joined {
    /// Counts CONNACK and SUBACK; whether the packet was one of them.
    pub(super) fn see(&mut self, packet: &Inbound<'_>) -> Result<bool, String> {
        match packet {
            Inbound::Connack {
                reason: 0,
                session_present,
                ..
            } => {
                self.connacks += 1;
                self.sessions_present += usize::from(*session_present);
            }
            Inbound::Connack { reason, .. } => return refused("a connection", *reason),
            Inbound::Suback { reason: 0..=2, .. } => self.subacks += 1,
            Inbound::Suback { reason, .. } => return refused("a subscription", *reason),
            Inbound::Unsuback { reason, .. } if *reason >= 0x80 => return refused("to unsubscribe", *reason),
            Inbound::Disconnect { reason, .. } => {
                return Err(format!(
                    "the broker disconnected a client with Reason Code 0x{reason:02X}"
                ));
            }
            Inbound::Unsuback { .. } | Inbound::Pingresp => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn refused<T>(what: &str, code: u8) -> Result<T, String> {
    Err(format!("the broker refused {what} with code 0x{code:02X}"))
}

/// A handler that clients join.
pub(super) trait Host: Handler {
    fn joined(&mut self) -> &mut Joined;
}

const CONNECTING_AT_A_TIME: usize = 200;
const SUBSCRIBING_AT_A_TIME: usize = 2000;
/// How long the broker may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects the clients and subscribes to their filters; their connections.
pub(super) fn join(
    net: &mut Net,
    host: &mut impl Host,
    terms: &Terms<'_>,
    clients: &[Joining],
) -> Result<Vec<usize>, String> {
    let mut ids = Vec::with_capacity(clients.len());
    let done = host.joined().connacks;
    let answered = |joined: &Joined| joined.connacks - done;
    answer_all(
        net,
        host,
        clients.len(),
        CONNECTING_AT_A_TIME,
        answered,
        |net, number| {
            ids.push(terms.connect(net, number, &clients[number].client_id)?);
            Ok(())
        },
    )?;
    subscribe(net, host, terms, &ids, clients)?;
    Ok(ids)
}

/// Ends the sessions of these connections: clients whose sessions end with their connections take the places of `clients`.
pub(super) fn end_sessions(
    net: &mut Net,
    host: &mut impl Host,
    terms: &Terms<'_>,
    ids: Vec<usize>,
    clients: &[Joining],
) -> Result<(), String> {
    ids.into_iter().for_each(|id| net.close(id));
    join(net, host, terms, clients).map(drop)
}

/// Gives the broker a moment: to let go of what it needed for the beginning, or to tell other nodes of it.
pub(super) fn settle(net: &mut Net, handler: &mut impl Handler) -> Result<(), String> {
    const MOMENT: Duration = Duration::from_millis(500);
    let begun = Instant::now();
    while begun.elapsed() < MOMENT {
        net.round(MOMENT.saturating_sub(begun.elapsed()), handler)?;
    }
    Ok(())
}

/// Subscribes the clients, whose connections these are, to their filters.
pub(super) fn subscribe(
    net: &mut Net,
    host: &mut impl Host,
    terms: &Terms<'_>,
    ids: &[usize],
    clients: &[Joining],
) -> Result<(), String> {
    let of_one = |(id, client): (&usize, &'_ Joining)| -> Vec<(usize, usize, String)> {
        let filters = client.filters.iter().enumerate();
        filters.map(|(place, filter)| (*id, place, filter.clone())).collect()
    };
    let filters: Vec<_> = ids.iter().zip(clients).flat_map(of_one).collect();
    let done = host.joined().subacks;
    let answered = |joined: &Joined| joined.subacks - done;
    answer_all(
        net,
        host,
        filters.len(),
        SUBSCRIBING_AT_A_TIME,
        answered,
        |net, number| {
            let (id, place, filter) = &filters[number];
            let packet_id = packet_id(*place as u64);
            client::subscribe(net.output(*id), terms.version, packet_id, filter, terms.qos);
            Ok(())
        },
    )
}

/// Answers a message as its QoS asks for.
#[inline]
pub(super) fn acknowledge(output: &mut Vec<u8>, version: Version, publish: &InboundPublish<'_>) {
    match publish.qos {
        QoS::AtMostOnce => {}
        QoS::AtLeastOnce => answer(output, version, AckKind::Puback, publish.packet_id),
        QoS::ExactlyOnce => answer(output, version, AckKind::Pubrec, publish.packet_id),
    }
}

/// What a packet is to the messages of QoS 1 and 2 that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A message that this client has published is acknowledged for good.
    Acknowledged,
    /// It has been answered.
    UnderWay,
    /// It has nothing to do with them.
    None,
}

/// Goes on with the flow of a message of QoS 1 or 2.
///
/// # Errors
/// If the broker has refused it.
#[inline]
pub(super) fn go_on(output: &mut Vec<u8>, version: Version, packet: &Inbound<'_>) -> Result<Step, String> {
    let (reason, answered) = match *packet {
        Inbound::Puback { reason, .. } | Inbound::Pubcomp { reason, .. } => (reason, None),
        Inbound::Pubrec { packet_id, reason } => (reason, Some((AckKind::Pubrel, packet_id))),
        Inbound::Pubrel { packet_id, reason } => (reason, Some((AckKind::Pubcomp, packet_id))),
        _ => return Ok(Step::None),
    };
    if reason >= 0x80 {
        return refused("a message", reason);
    }
    let Some((kind, packet_id)) = answered else {
        return Ok(Step::Acknowledged);
    };
    answer(output, version, kind, packet_id);
    Ok(Step::UnderWay)
}

#[inline]
fn answer(output: &mut Vec<u8>, version: Version, kind: AckKind, packet_id: u16) {
    encode::ack(output, version, kind, packet_id, ReasonCode::Success, None, None);
}

/// Packet Identifiers in turn.
pub(super) fn packet_id(number: u64) -> u16 {
    (number % 65_535) as u16 + 1
}

/// Begins `count` things, of which so many may be unanswered at a time, and waits for all answers.
fn answer_all<H: Host>(
    net: &mut Net,
    host: &mut H,
    count: usize,
    at_a_time: usize,
    answered: impl Fn(&Joined) -> usize,
    mut begin: impl FnMut(&mut Net, usize) -> Result<(), String>,
) -> Result<(), String> {
    let mut begun = 0;
    loop {
        let now = answered(host.joined());
        while begun < count && begun < now + at_a_time {
            begin(net, begun)?;
            begun += 1;
        }
        if now >= count {
            return Ok(());
        }
        wait(net, host, |host| answered(host.joined()) as u64, now as u64 + 1)?;
    }
}

/// Goes on until the number has been reached.
pub(super) fn wait<H: Handler>(
    net: &mut Net,
    handler: &mut H,
    mut number: impl FnMut(&mut H) -> u64,
    wanted: u64,
) -> Result<(), String> {
    let mut seen = (number(handler), Instant::now());
    while seen.0 < wanted {
        net.round(Duration::from_millis(200), handler)?;
        let now = number(handler);
        if now != seen.0 {
            seen = (now, Instant::now());
        } else if seen.1.elapsed() > PATIENCE {
            return Err(format!(
                "the broker has said nothing for 20 s; {now} of {wanted} have been answered"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flow_of_qos_1_and_2_goes_on() {
        let mut output = Vec::new();
        let mut step = |packet| go_on(&mut output, Version::V311, &packet);
        let (packet_id, reason) = (7, 0x10);
        assert_eq!(step(Inbound::Puback { packet_id, reason }), Ok(Step::Acknowledged));
        assert_eq!(step(Inbound::Pubcomp { packet_id, reason }), Ok(Step::Acknowledged));
        assert_eq!(step(Inbound::Pingresp), Ok(Step::None));
        assert_eq!(step(Inbound::Pubrec { packet_id, reason }), Ok(Step::UnderWay));
        assert_eq!(step(Inbound::Pubrel { packet_id, reason }), Ok(Step::UnderWay));
        assert_eq!(output, [0x62, 2, 0, 7, 0x70, 2, 0, 7]);
    }

    /// A Reason Code of 0x80 or above is a failure (section 2.4).
    #[test]
    fn a_refusal_names_the_code() {
        let (packet_id, reason) = (7, 0x97);
        let message = "the broker refused a message with code 0x97";
        for packet in [
            Inbound::Puback { packet_id, reason },
            Inbound::Pubrec { packet_id, reason },
            Inbound::Pubrel { packet_id, reason },
            Inbound::Pubcomp { packet_id, reason },
        ] {
            let mut output = Vec::new();
            assert_eq!(go_on(&mut output, Version::V5, &packet), Err(message.to_owned()));
            assert!(output.is_empty());
        }
        let connack = Inbound::Connack {
            session_present: false,
            reason,
            properties: crate::properties::Properties::EMPTY,
        };
        for (packet, what) in [
            (connack, "a connection"),
            (Inbound::Suback { packet_id, reason }, "a subscription"),
            (Inbound::Unsuback { packet_id, reason }, "to unsubscribe"),
        ] {
            let expected = Err(format!("the broker refused {what} with code 0x97"));
            assert_eq!(Joined::default().see(&packet), expected);
        }
    }
}
