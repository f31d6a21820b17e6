//! `broker sub`: prints messages, as mosquitto_sub does.

mod format;
mod json;
mod printer;

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::mqtt::{self, Client, ConnectOptions, Failure, Hello, Refusal, Stop, Stopped, qos, seconds};
use crate::client::{self, Inbound, InboundPublish};
use crate::codec::encode::{self, AckKind};
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::properties::{Properties, Property};
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;
use format::{Format, Message};
use printer::Printer;

/// Subscribes, and prints the messages that come, until it is told to end.
#[derive(Clone, Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Subscribe {
    /// Topic filter; may be repeated
    #[arg(short, long = "topic", value_name = "FILTER")]
    topics: Vec<String>,
    /// Do not print messages whose topic matches this filter; may be repeated
    #[arg(short = 'T', long, value_name = "FILTER")]
    filter_out: Vec<String>,
    /// Unsubscribe from this filter, after the others were subscribed to; may be repeated
    #[arg(short = 'U', long, value_name = "FILTER")]
    unsubscribe: Vec<String>,
    /// Highest QoS of the messages: 0, 1 or 2
    #[arg(short, long, default_value = "0", value_parser = qos)]
    qos: QoS,
    /// Do not print retained messages
    #[arg(short = 'R', long, conflicts_with = "retained_only")]
    no_retained: bool,
    /// Print retained messages only, and end with the first other one
    #[arg(long)]
    retained_only: bool,
    /// Messages are marked as retained as the publisher did it (MQTT 5.0)
    #[arg(long)]
    retain_as_published: bool,
    /// When the broker sends retained messages (MQTT 5.0)
    #[arg(long, value_name = "WHEN", default_value = "always")]
    retain_handling: Handling,

    /// End after so many messages
    #[arg(short = 'C', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Until when")]
    count: Option<u64>,
    /// End after so many seconds, with exit code 27
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds, help_heading = "Until when")]
    timeout: Option<Duration>,
    /// End when the broker has answered all subscriptions
    #[arg(short = 'E', long, help_heading = "Until when")]
    exit_after_subscribe: bool,
    /// End when the connection is lost, with exit code 1, instead of connecting again
    #[arg(long, help_heading = "Until when")]
    no_reconnect: bool,

    /// Print the topic before the payload
    #[arg(short, long, conflicts_with = "format", help_heading = "Output")]
    verbose: bool,
    /// What to print for each message, such as '%t %p'
    #[arg(short = 'F', long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<String>,
    /// No line break behind each message
    #[arg(short = 'N', long, help_heading = "Output")]
    no_newline: bool,

    #[command(flatten)]
    connect: ConnectOptions,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Handling {
    /// At each subscription
    Always,
    /// If the subscription is new to the session
    New,
    /// Not at all
    Never,
}

/// Does what the command says.
pub(crate) fn run(options: &Subscribe) -> ExitCode {
    mqtt::run(subscribe(options), options.connect.quiet)
}

/// Pause before another attempt to connect.
const PAUSE: Duration = Duration::from_secs(1);

async fn subscribe(options: &Subscribe) -> Result<(), Failure> {
    let (hello, topic_of_url) = options.connect.hello("sub")?;
    let mut subscriber = Subscriber::new(options, &hello, topic_of_url)?;
    let mut stop = Stop::after(options.timeout)?;
    let mut client = None;
    let ended = tokio::select! {
        done = subscriber.run(&mut client) => Ok(done),
        stopped = stop.wait() => Err(stopped),
    };
    // As mosquitto_sub does: who is stopped has not said that all is well.
    let reason = match ended {
        Err(_) => ReasonCode::DisconnectWithWillMessage,
        Ok(_) => ReasonCode::Success,
    };
    if let Some(client) = client {
        // All that was asked for has been printed: what the broker says to that changes nothing.
        let _ = client.leave(reason, &hello.properties.disconnect).await;
    }
    match ended {
        Ok(done) => done,
        Err(Stopped::Timeout) => Err(Failure::timeout()),
        Err(Stopped::Signal) => Ok(()),
    }
}

struct Subscriber<'o> {
    options: &'o Subscribe,
    hello: &'o Hello,
    topics: Vec<String>,
    filtered_out: Vec<TopicFilter>,
    printer: Printer,
    /// Messages that may still be printed.
    left: Option<u64>,
    /// Identifiers of QoS 2 messages that are printed and not released.
    unreleased: HashSet<u16>,
    aliases: HashMap<u16, Vec<u8>>,
    /// What the broker has not answered: the filter of each SUBSCRIBE and UNSUBSCRIBE.
    unanswered: HashMap<u16, String>,
    /// Subscriptions that were refused.
    refused: usize,
    /// The connection is there for the first time.
    is_first: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    More,
    End,
}

impl<'o> Subscriber<'o> {
    fn new(options: &'o Subscribe, hello: &'o Hello, topic_of_url: Option<String>) -> Result<Subscriber<'o>, Failure> {
        let mut topics = options.topics.clone();
        if topics.is_empty() {
            topics.extend(topic_of_url);
        }
        if topics.is_empty() && options.unsubscribe.is_empty() {
            return Err(Failure::new("there is no topic: -t"));
        }
        let needs_v5 = options.retain_as_published || options.retain_handling != Handling::Always;
        if needs_v5 && !hello.version.is_v5() {
            return Err(Failure::new(
                "--retain-as-published and --retain-handling need MQTT 5.0: -V 5",
            ));
        }
        for filter in topics.iter().chain(&options.unsubscribe) {
            parse(filter)?;
        }
        let filtered_out: Result<_, _> = options.filter_out.iter().map(|filter| parse(filter)).collect();
        let format = match &options.format {
            Some(format) => Format::parse(format)?,
            None if options.verbose => Format::verbose(),
            None => Format::payload(),
        };
        Ok(Subscriber {
            options,
            hello,
            topics,
            filtered_out: filtered_out?,
            printer: Printer::new(format, !options.no_newline),
            left: options.count,
            unreleased: HashSet::new(),
            aliases: HashMap::new(),
            unanswered: HashMap::new(),
            refused: 0,
            is_first: true,
        })
    }

    /// Prints until the end; the last connection is left in `client`.
    async fn run(&mut self, client: &mut Option<Client>) -> Result<(), Failure> {
        loop {
            let Err(failure) = self.run_once(client).await else {
                return Ok(());
            };
            if self.is_first || !failure.passes || self.options.no_reconnect {
                return Err(failure);
            }
            if !self.options.connect.quiet && !failure.text.is_empty() {
                eprintln!("broker: {}; connecting again", failure.text);
            }
            *client = None;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn run_once(&mut self, client: &mut Option<Client>) -> Result<(), Failure> {
        let client = client.insert(Client::connect(self.hello).await?);
        let resumed = client.terms.session_present;
        if !resumed {
            self.unreleased.clear();
        }
        self.aliases.clear();
        self.unanswered.clear();
        if self.is_first || !resumed {
            self.ask(client);
        }
        self.is_first = false;
        loop {
            client.wait().await?;
            let next = self.take_packets(client)?;
            // Before anything is acknowledged, which happens while waiting.
            if self.printer.flush().await? == Next::End || next == Next::End {
                return Ok(());
            }
        }
    }

    /// Sends a SUBSCRIBE for each filter, so that each has an answer of its own.
    fn ask(&mut self, client: &mut Client) {
        let options = SubscriptionOptions {
            qos: self.options.qos,
            no_local: false,
            retain_as_published: self.options.retain_as_published,
            retain_handling: match self.options.retain_handling {
                Handling::Always => RetainHandling::SendAlways,
                Handling::New => RetainHandling::SendIfNew,
                Handling::Never => RetainHandling::SendNever,
            },
        };
        let (version, output) = (client.version, &mut client.output);
        let properties = &self.hello.properties;
        let mut packet_id = 0;
        for filter in &self.topics {
            packet_id += 1;
            client::subscribe_with(output, version, packet_id, filter, options, &properties.subscribe);
            self.unanswered.insert(packet_id, filter.clone());
        }
        for filter in &self.options.unsubscribe {
            packet_id += 1;
            client::unsubscribe_with(output, version, packet_id, filter, &properties.unsubscribe);
            self.unanswered.insert(packet_id, filter.clone());
        }
    }

    fn take_packets(&mut self, client: &mut Client) -> Result<Next, Failure> {
        while let Some((packet, version, output)) = client.take_with_output()? {
            let mut ack = |kind, packet_id| {
                encode::ack(output, version, kind, packet_id, ReasonCode::Success, None, None);
            };
            let next = match packet {
                Inbound::Publish(publish) => {
                    let next = self.receive(&publish)?;
                    match publish.qos {
                        QoS::AtMostOnce => {}
                        QoS::AtLeastOnce => ack(AckKind::Puback, publish.packet_id),
                        QoS::ExactlyOnce => ack(AckKind::Pubrec, publish.packet_id),
                    }
                    next
                }
                Inbound::Pubrel { packet_id, .. } => {
                    self.unreleased.remove(&packet_id);
                    ack(AckKind::Pubcomp, packet_id);
                    Next::More
                }
                Inbound::Suback { packet_id, reason } | Inbound::Unsuback { packet_id, reason } => {
                    self.answered(packet_id, reason)?
                }
                _ => Next::More,
            };
            if next == Next::End {
                return Ok(Next::End);
            }
        }
        Ok(Next::More)
    }

    fn answered(&mut self, packet_id: u16, reason: u8) -> Result<Next, Failure> {
        let Some(filter) = self.unanswered.remove(&packet_id) else {
            return Ok(Next::More);
        };
        if reason >= 0x80 {
            self.refused += 1;
            if !self.options.connect.quiet {
                let refusal = Refusal {
                    code: reason,
                    properties: Properties::EMPTY,
                };
                eprintln!("broker: the broker refuses {filter:?}: {refusal}");
            }
        }
        if !self.unanswered.is_empty() {
            return Ok(Next::More);
        }
        if self.refused > 0 && self.refused == self.topics.len() + self.options.unsubscribe.len() {
            return Err(Failure::new("the broker refuses all subscriptions"));
        }
        if self.options.exit_after_subscribe {
            return if self.refused > 0 {
                Err(Failure::new(""))
            } else {
                Ok(Next::End)
            };
        }
        Ok(Next::More)
    }

    /// Prints the message, unless it is not asked for.
    fn receive(&mut self, publish: &InboundPublish<'_>) -> Result<Next, Failure> {
        let topic = self.resolve(publish)?;
        if publish.qos == QoS::ExactlyOnce && !self.unreleased.insert(publish.packet_id) {
            return Ok(Next::More);
        }
        if self.options.retained_only && !publish.retain {
            return Ok(Next::End);
        }
        if (self.options.no_retained && publish.retain) || self.is_filtered_out(&topic) {
            return Ok(Next::More);
        }
        self.printer.print(&Message {
            topic: &topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            packet_id: publish.packet_id,
            properties: publish.properties,
        });
        let Some(left) = &mut self.left else {
            return Ok(Next::More);
        };
        *left -= 1;
        Ok(if *left == 0 { Next::End } else { Next::More })
    }

    /// The topic, which a Topic Alias may stand for.
    fn resolve(&mut self, publish: &InboundPublish<'_>) -> Result<Vec<u8>, Failure> {
        let alias = publish.properties.iter().find_map(|property| match property {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        });
        match alias {
            Some(alias) if publish.topic.is_empty() => {
                let known = self.aliases.get(&alias).cloned();
                known.ok_or_else(|| Failure::new("the broker has sent an unknown Topic Alias"))
            }
            Some(alias) => {
                self.aliases.insert(alias, publish.topic.to_vec());
                Ok(publish.topic.to_vec())
            }
            None => Ok(publish.topic.to_vec()),
        }
    }

    fn is_filtered_out(&self, topic: &[u8]) -> bool {
        let Ok(topic) = std::str::from_utf8(topic) else {
            return false;
        };
        self.filtered_out.iter().any(|filter| filter.matches(topic))
    }
}

fn parse(filter: &str) -> Result<TopicFilter, Failure> {
    TopicFilter::parse(filter).map_err(|error| Failure::new(format!("{filter:?}: {}", error.as_str())))
}
