//! `broker pub`: publishes messages, as mosquitto_pub does.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::mqtt::{self, Client, ConnectOptions, Failure, Hello, Refusal, Stop, Stopped, qos, seconds};
use crate::client::Inbound;
use crate::codec::encode::{self, AckKind, PublishFrame};
use crate::codec::frame::MAX_PACKET_SIZE;
use crate::packet::QoS;
use crate::properties::Properties;
use crate::reason::ReasonCode;
use crate::topic;

/// Publishes a message, or each line of the input, and ends when the broker has taken all.
#[derive(Clone, Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Publish {
    /// Topic
    #[arg(short, long)]
    topic: Option<String>,
    #[command(flatten)]
    payload: Payload,
    /// QoS: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// The broker keeps the message for subscribers to come
    #[arg(short, long)]
    retain: bool,
    /// Publish the message so many times
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "stdin_line")]
    repeat: u64,
    /// Seconds between them
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    repeat_delay: Duration,
    /// Messages of QoS 1 and 2 that are under way at a time
    #[arg(short = 'M', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    max_inflight: u16,
    /// Give up after so many seconds, with exit code 27
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    connect: ConnectOptions,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct Payload {
    /// The message
    #[arg(short, long, value_name = "PAYLOAD", allow_hyphen_values = true)]
    message: Option<OsString>,
    /// The message is the content of this file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line of standard input is a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// The message is empty
    #[arg(short, long)]
    null_message: bool,
    /// The message is all of standard input
    #[arg(short, long)]
    stdin_file: bool,
}

/// Does what the command says.
pub(crate) fn run(options: &Publish) -> ExitCode {
    mqtt::run(publish(options), options.connect.quiet)
}

/// Bytes that are read from standard input at a time.
const CHUNK: usize = 64 * 1024;
/// Chunks that may wait.
const CHUNKS: usize = 4;

async fn publish(options: &Publish) -> Result<(), Failure> {
    let (hello, topic_of_url) = options.connect.hello("pub")?;
    let topic = options.topic.clone().or(topic_of_url);
    let topic = topic.ok_or_else(|| Failure::new("there is no topic: -t"))?;
    topic::check_name(&topic).map_err(|error| Failure::new(format!("-t {topic:?}: {}", error.as_str())))?;
    let payload = options.payload.read()?;
    let mut stop = Stop::after(options.timeout)?;
    let mut publisher = None;
    let ended = tokio::select! {
        done = connect_and_publish(options, &hello, &topic, payload, &mut publisher) => Ok(done),
        stopped = stop.wait() => Err(stopped),
    };
    let refused = publisher.as_ref().map_or(0, |publisher| publisher.refused);
    let left = match publisher {
        Some(publisher) => {
            publisher
                .client
                .leave(ReasonCode::Success, &hello.properties.disconnect)
                .await
        }
        None => Ok(()),
    };
    match ended {
        Err(Stopped::Timeout) => Err(Failure::timeout()),
        Err(Stopped::Signal) => Err(Failure::new("interrupted before the broker had taken everything")),
        Ok(Err(failure)) => Err(failure),
        Ok(Ok(())) if refused > 0 => Err(Failure::new("")),
        Ok(Ok(())) => left,
    }
}

async fn connect_and_publish(
    options: &Publish,
    hello: &Hello,
    topic: &str,
    payload: Option<Vec<u8>>,
    publisher: &mut Option<Publisher>,
) -> Result<(), Failure> {
    let client = Client::connect(hello).await?;
    let publisher = publisher.insert(Publisher {
        window: usize::from(options.max_inflight.min(client.terms.receive_maximum)),
        client,
        topic: topic.to_owned(),
        qos: options.qos,
        retain: options.retain,
        properties: hello.properties.publish.clone(),
        under_way: HashMap::new(),
        last_id: 0,
        refused: 0,
        quiet: options.connect.quiet,
    });
    publisher.check()?;
    match payload {
        Some(payload) => publisher.repeat(&payload, options.repeat, options.repeat_delay).await?,
        None => publisher.lines().await?,
    }
    publisher.finish().await
}

impl Payload {
    /// None for lines of standard input.
    fn read(&self) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(message) = &self.message {
            return Ok(Some(message.clone().into_vec()));
        }
        if let Some(path) = &self.file {
            let error = |error: io::Error| Failure::new(format!("{}: {error}", path.display()));
            let file = File::open(path).map_err(error)?;
            return read_whole(file).map_err(error).map(Some);
        }
        if self.stdin_file {
            let read = read_whole(io::stdin().lock());
            return read
                .map(Some)
                .map_err(|error| Failure::new(format!("standard input: {error}")));
        }
        Ok(self.null_message.then(Vec::new))
    }
}

fn read_whole(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(u64::from(MAX_PACKET_SIZE) + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_PACKET_SIZE as usize {
        return Err(io::Error::other("it is larger than any packet of MQTT"));
    }
    Ok(bytes)
}

struct Publisher {
    client: Client,
    topic: String,
    qos: QoS,
    retain: bool,
    properties: Vec<u8>,
    /// Messages of QoS 1 and 2 that the broker has not acknowledged; whether their PUBREL has been sent.
    under_way: HashMap<u16, bool>,
    /// Most of these.
    window: usize,
    last_id: u16,
    /// Messages that the broker does not want.
    refused: u64,
    quiet: bool,
}

impl Publisher {
    /// What the broker has said that it does not support.
    fn check(&self) -> Result<(), Failure> {
        let terms = &self.client.terms;
        if self.qos > terms.maximum_qos {
            let most = terms.maximum_qos as u8;
            return Err(Failure::new(format!(
                "the broker accepts messages up to QoS {most} only"
            )));
        }
        if self.retain && !terms.retain_available {
            return Err(Failure::new("the broker does not support retained messages"));
        }
        Ok(())
    }

    async fn repeat(&mut self, payload: &[u8], count: u64, delay: Duration) -> Result<(), Failure> {
        for number in 0..count {
            if number > 0 && !delay.is_zero() {
                self.pause(delay).await?;
            }
            self.make_room().await?;
            self.send(payload)?;
        }
        Ok(())
    }

    async fn lines(&mut self) -> Result<(), Failure> {
        let mut chunks = read_stdin();
        let mut line = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = chunks.recv() => chunk,
                waited = self.client.wait() => {
                    waited?;
                    self.take_answers()?;
                    continue;
                }
            };
            let Some(chunk) = chunk else { break };
            let chunk = chunk.map_err(|error| Failure::new(format!("standard input: {error}")))?;
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if line.len() > MAX_PACKET_SIZE as usize {
                    return Err(Failure::new("a line is larger than any packet of MQTT"));
                }
                if line.ends_with(b"\n") {
                    line.pop();
                    self.make_room().await?;
                    self.send(&line)?;
                    line.clear();
                }
            }
        }
        if !line.is_empty() {
            self.make_room().await?;
            self.send(&line)?;
        }
        Ok(())
    }

    /// Waits until the broker has acknowledged every message, or, for QoS 0, has got so far.
    async fn finish(&mut self) -> Result<(), Failure> {
        if self.qos == QoS::AtMostOnce {
            self.client.ask();
        }
        while !self.under_way.is_empty() || !self.client.has_answer() {
            self.client.wait().await?;
            self.take_answers()?;
        }
        Ok(())
    }

    async fn pause(&mut self, delay: Duration) -> Result<(), Failure> {
        let end = Instant::now() + delay;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return Ok(()),
                waited = self.client.wait() => waited?,
            }
            self.take_answers()?;
        }
    }

    /// Waits until another message may be sent.
    async fn make_room(&mut self) -> Result<(), Failure> {
        loop {
            self.take_answers()?;
            if self.under_way.len() < self.window && self.client.has_room() {
                return Ok(());
            }
            self.client.progress().await?;
        }
    }

    fn send(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let packet_id = if self.qos == QoS::AtMostOnce { 0 } else { self.next_id() };
        let frame = PublishFrame {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id,
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: &[],
            properties: &self.properties,
            payload,
        };
        let size = encode::publish_size(self.client.version, &frame);
        let most = self.client.terms.maximum_packet_size.min(MAX_PACKET_SIZE);
        if size > most as usize {
            return Err(Failure::new(format!(
                "the message is a packet of {size} bytes: the broker takes at most {most}"
            )));
        }
        encode::publish(&mut self.client.output, self.client.version, &frame);
        if packet_id != 0 {
            self.under_way.insert(packet_id, false);
        }
        Ok(())
    }

    /// The window is smaller than the number of identifiers: one is free.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.under_way.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn take_answers(&mut self) -> Result<(), Failure> {
        while let Some((packet, version, output)) = self.client.take_with_output()? {
            let (packet_id, reason) = match packet {
                Inbound::Puback { packet_id, reason } | Inbound::Pubcomp { packet_id, reason } => {
                    self.under_way.remove(&packet_id);
                    (packet_id, reason)
                }
                Inbound::Pubrec { packet_id, reason } if reason < 0x80 => {
                    self.under_way.insert(packet_id, true);
                    encode::ack(
                        output,
                        version,
                        AckKind::Pubrel,
                        packet_id,
                        ReasonCode::Success,
                        None,
                        None,
                    );
                    continue;
                }
                Inbound::Pubrec { packet_id, reason } => {
                    self.under_way.remove(&packet_id);
                    (packet_id, reason)
                }
                // Messages for the session of this client stay there: they are not acknowledged.
                _ => continue,
            };
            if reason >= 0x80 {
                self.refused += 1;
                if !self.quiet {
                    let refusal = Refusal {
                        code: reason,
                        properties: Properties::EMPTY,
                    };
                    eprintln!("broker: the broker refuses message {packet_id}: {refusal}");
                }
            }
        }
        Ok(())
    }
}

/// What comes from standard input; a thread reads it, which ends with the process.
fn read_stdin() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut buffer = vec![0; CHUNK];
        loop {
            let chunk = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(size) => Ok(buffer[..size].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    });
    receiver
}
