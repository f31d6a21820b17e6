//! A connected client: packets in and out on one task, and the keep alive.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use super::stream::Stream;
use super::{Failure, PacketProperties, Refusal, Target, open};
use crate::client::{self, Connect, Inbound, Will};
use crate::codec::frame;
use crate::packet::{QoS, Version};
use crate::properties::Property;
use crate::reason::ReasonCode;

/// Time from the first packet of TCP to the CONNACK.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// Time that the broker has to close the connection after a DISCONNECT.
const LEAVE_TIME: Duration = Duration::from_secs(2);
/// Bytes that are read at a time.
const READ_SIZE: usize = 64 * 1024;
/// Bytes that are written at a time: a WebSocket has them in one frame.
const MOST_AT_ONCE: usize = 1024 * 1024;
/// Bytes of output above which [`Client::has_room`] says no.
const MUCH: usize = 256 * 1024;

/// All that is needed to connect.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) target: Target,
    /// If the target has TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) clean: bool,
    pub(crate) session_expiry_interval: u32,
    pub(crate) keep_alive: u16,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    /// Topic, payload, QoS, whether it is retained.
    pub(crate) will: Option<(String, Vec<u8>, QoS, bool)>,
    pub(crate) properties: PacketProperties,
}

/// What the broker has said in its CONNACK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) session_present: bool,
    /// Of QoS 1 and 2, on their way to the broker.
    pub(crate) receive_maximum: u16,
    pub(crate) maximum_packet_size: u32,
    pub(crate) maximum_qos: QoS,
    pub(crate) retain_available: bool,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            session_present: false,
            receive_maximum: u16::MAX,
            maximum_packet_size: frame::MAX_PACKET_SIZE,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
        }
    }
}

/// A packet, and what is needed to answer it.
pub(crate) type Taken<'a> = (Inbound<'a>, Version, &'a mut Vec<u8>);

/// A connected client. Packets that arrive wait until they are taken, and nothing is read before.
pub(crate) struct Client {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    pub(crate) version: Version,
    pub(crate) terms: Terms,
    /// What the layers below have taken and may not have sent.
    unflushed: bool,
    input: Vec<u8>,
    /// So many bytes of the input belong to packets that were taken.
    taken: usize,
    /// What is to be sent.
    pub(crate) output: Vec<u8>,
    /// So many bytes of the output have been sent: at most half of them.
    sent: usize,
    keep_alive: Option<Duration>,
    last_sent: Instant,
    /// When the PINGREQ was sent that has no answer yet.
    pinged: Option<Instant>,
    /// See [`Client::ask`].
    answers_missing: u8,
}

impl Client {
    /// Connects, and waits for the CONNACK.
    ///
    /// # Errors
    /// If the broker refuses, with its code as exit code.
    pub(crate) async fn connect(hello: &Hello) -> Result<Client, Failure> {
        let connecting = async {
            let opened = open(&hello.target, hello.tls.clone()).await;
            let stream = opened.map_err(Failure::passing)?;
            let mut client = Client::new(stream, hello);
            client.wait().await.map_err(|failure| failure.at(&hello.target))?;
            client.read_connack(hello)?;
            Ok(client)
        };
        match tokio::time::timeout(CONNECT_TIME, connecting).await {
            Ok(result) => result,
            Err(_) => Err(Failure::passing(format!(
                "{}: no answer within {} seconds",
                hello.target,
                CONNECT_TIME.as_secs()
            ))),
        }
    }

    fn new(stream: Box<dyn Stream>, hello: &Hello) -> Client {
        let (reader, writer) = tokio::io::split(stream);
        let mut client = Client {
            reader,
            writer,
            version: hello.version,
            terms: Terms::default(),
            unflushed: false,
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            sent: 0,
            keep_alive: None,
            last_sent: Instant::now(),
            pinged: None,
            answers_missing: 0,
        };
        let will = hello.will.as_ref().map(|(topic, payload, qos, retain)| Will {
            topic,
            payload,
            qos: *qos,
            retain: *retain,
            properties: &hello.properties.will,
        });
        let connect = Connect {
            version: hello.version,
            client_id: &hello.client_id,
            clean: hello.clean,
            keep_alive: hello.keep_alive,
            session_expiry_interval: hello.session_expiry_interval,
            username: hello.username.as_deref(),
            password: hello.password.as_deref(),
            will,
            properties: &hello.properties.connect,
        };
        client::connect(&mut client.output, &connect);
        client
    }

    fn read_connack(&mut self, hello: &Hello) -> Result<(), Failure> {
        let (code, session_present, properties) = match self.take()? {
            Some(Inbound::Connack {
                reason,
                session_present,
                properties,
            }) => (reason, session_present, properties),
            _ => {
                return Err(Failure::new(format!(
                    "{}: what answers is no MQTT broker",
                    hello.target
                )));
            }
        };
        if code != 0 {
            let refusal = Refusal { code, properties };
            return Err(Failure {
                code,
                text: format!("the broker refuses the connection: {refusal}"),
                passes: refusal.passes(),
                refused: true,
            });
        }
        let mut terms = Terms {
            session_present,
            ..Terms::default()
        };
        let mut keep_alive = hello.keep_alive;
        for property in properties.iter() {
            match property {
                Property::ReceiveMaximum(most) => terms.receive_maximum = most.max(1),
                Property::MaximumPacketSize(most) => terms.maximum_packet_size = most,
                Property::MaximumQoS(most) => terms.maximum_qos = QoS::from_u8(most).unwrap_or_default(),
                Property::RetainAvailable(available) => terms.retain_available = available != 0,
                Property::ServerKeepAlive(seconds) => keep_alive = seconds,
                _ => {}
            }
        }
        self.terms = terms;
        self.keep_alive = (keep_alive > 0).then(|| Duration::from_secs(u64::from(keep_alive)));
        Ok(())
    }

    /// Waits until there is a packet to be taken, and sends what there is to be sent meanwhile. It may be given up at
    /// any time.
    ///
    /// # Errors
    /// If the connection has ended, or the broker is silent.
    pub(crate) async fn wait(&mut self) -> Result<(), Failure> {
        while !self.has_packet()? {
            self.progress().await?;
        }
        Ok(())
    }

    /// Waits until something has been sent or has arrived, unless there is a packet to be taken. It may be given up at
    /// any time.
    pub(crate) async fn progress(&mut self) -> Result<(), Failure> {
        self.forget_taken();
        if !self.has_packet()? {
            self.step().await?;
        }
        Ok(())
    }

    /// The next packet, if all of it is there. A DISCONNECT is an error.
    pub(crate) fn take(&mut self) -> Result<Option<Inbound<'_>>, Failure> {
        Ok(self.take_with_output()?.map(|(packet, ..)| packet))
    }

    /// The next packet, and where to append what answers it.
    pub(crate) fn take_with_output(&mut self) -> Result<Option<Taken<'_>>, Failure> {
        let version = self.version;
        let found = frame::parse(&self.input[self.taken..], u32::MAX).map_err(|error| broken(error.detail))?;
        let Some(found) = found else {
            return Ok(None);
        };
        self.taken += found.size;
        match client::parse(version, &found).map_err(|error| broken(error.0))? {
            Inbound::Disconnect { reason, properties } => {
                let refusal = Refusal {
                    code: reason,
                    properties,
                };
                Err(Failure {
                    passes: refusal.passes(),
                    ..Failure::new(format!("the broker has ended the connection: {refusal}"))
                })
            }
            packet => {
                if packet == Inbound::Pingresp {
                    self.pinged = None;
                    self.answers_missing = self.answers_missing.saturating_sub(1);
                }
                Ok(Some((packet, version, &mut self.output)))
            }
        }
    }

    /// Asks the broker for an answer: when [`Client::has_answer`] says so, it has worked on everything sent before.
    pub(crate) fn ask(&mut self) {
        // One that is under way would answer too early.
        self.answers_missing = 1 + u8::from(self.pinged.is_some());
        self.pinged = Some(Instant::now());
        client::pingreq(&mut self.output);
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.answers_missing == 0
    }

    /// Whether more should be appended to the output.
    pub(crate) fn has_room(&self) -> bool {
        self.output.len() - self.sent < MUCH
    }

    /// Says goodbye, and waits until the broker has closed the connection. Nothing that comes is acknowledged.
    pub(crate) async fn leave(mut self, reason: ReasonCode, properties: &[u8]) -> Result<(), Failure> {
        client::disconnect_with(&mut self.output, self.version, reason, properties);
        // Nothing may follow.
        self.keep_alive = None;
        let leaving = async {
            while self.has_unsent() {
                self.step().await?;
                self.discard()?;
            }
            // The end of a stream that the broker closed before.
            let _ = self.writer.shutdown().await;
            while self.step().await.is_ok() {
                self.discard()?;
            }
            Ok(())
        };
        // Everything has been acknowledged before: a broker that does not close owes nothing.
        tokio::time::timeout(LEAVE_TIME, leaving).await.unwrap_or(Ok(()))
    }

    fn discard(&mut self) -> Result<(), Failure> {
        while self.take()?.is_some() {}
        self.forget_taken();
        Ok(())
    }

    fn forget_taken(&mut self) {
        self.input.drain(..self.taken);
        self.taken = 0;
    }

    fn has_packet(&self) -> Result<bool, Failure> {
        let found = frame::parse(&self.input[self.taken..], u32::MAX);
        Ok(found.map_err(|error| broken(error.detail))?.is_some())
    }

    /// Reads once, or writes once, or pings.
    async fn step(&mut self) -> Result<(), Failure> {
        let ping_at = self.ping_at();
        let has_unsent = self.has_unsent();
        self.input.reserve(READ_SIZE);
        tokio::select! {
            read = self.reader.read_buf(&mut self.input) => match read {
                Ok(0) => return Err(Failure::passing(SERVER_GONE)),
                Ok(_) => {}
                Err(error) => return Err(lost(&error)),
            },
            written = write(&mut self.writer, &self.output[self.sent..]), if has_unsent => {
                self.advance(written.map_err(|error| lost(&error))?);
            }
            () = sleep_until(ping_at) => self.ping()?,
        }
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        !self.output.is_empty() || self.unflushed
    }

    /// So many bytes have been written. What is moved is never more than what was written since the last move.
    fn advance(&mut self, size: usize) {
        self.unflushed = size > 0;
        self.sent += size;
        if self.sent > self.output.len() / 2 {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        self.last_sent = Instant::now();
    }

    /// When a PINGREQ is due, or the answer to one is overdue.
    fn ping_at(&self) -> Option<Instant> {
        let keep_alive = self.keep_alive?;
        Some(self.pinged.unwrap_or(self.last_sent) + keep_alive)
    }

    fn ping(&mut self) -> Result<(), Failure> {
        if self.pinged.is_some() {
            return Err(Failure::passing(
                "the connection is lost: the broker does not answer a PINGREQ",
            ));
        }
        self.pinged = Some(Instant::now());
        client::pingreq(&mut self.output);
        Ok(())
    }
}

const SERVER_GONE: &str = "the broker has closed the connection";

/// Writes some of the bytes; without any, what was written before is sent.
async fn write(writer: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) -> io::Result<usize> {
    match bytes {
        [] => writer.flush().await.map(|()| 0),
        bytes => match writer.write(&bytes[..bytes.len().min(MOST_AT_ONCE)]).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            size => Ok(size),
        },
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::passing(format!("the connection is lost: {error}"))
}

fn broken(detail: &str) -> Failure {
    Failure::new(format!("the broker has sent what is no MQTT: {detail}"))
}
