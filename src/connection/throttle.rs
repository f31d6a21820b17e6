//! A client that sends more than it may: it is not read from until it may again, so that its own sockets hold it back.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::Config;
use crate::handlers::Closing;
use crate::rate::Meter;
use crate::reason::ReasonCode;
use crate::time::Millis;

/// See the module. Only clients whose rate is limited have one.
#[derive(Debug)]
pub(super) struct Throttle {
    messages: Option<Limit>,
    bytes: Option<Limit>,
    /// For how long the client may be over its rate without a pause.
    patience: Option<Duration>,
    /// Until when nothing is handled.
    until: Option<Millis>,
    /// Since when the client has been over its rate.
    over_since: Option<Millis>,
}

#[derive(Debug)]
struct Limit {
    rate: NonZeroU32,
    meter: Meter,
}

impl Limit {
    fn new(rate: Option<NonZeroU32>) -> Option<Limit> {
        let meter = Meter::default();
        rate.map(|rate| Limit { rate, meter })
    }

    fn count(&mut self, amount: u64, now: Millis) -> Duration {
        self.meter.count(amount, self.rate, now)
    }
}

impl Throttle {
    pub(super) fn new(config: &Config) -> Option<Box<Throttle>> {
        let (messages, bytes) = (Limit::new(config.message_rate), Limit::new(config.byte_rate));
        let is_limited = messages.is_some() || bytes.is_some();
        is_limited.then(|| {
            Box::new(Throttle {
                messages,
                bytes,
                patience: config.max_throttled,
                until: None,
                over_since: None,
            })
        })
    }

    /// Counts a packet, which is handled whatever the rate.
    ///
    /// # Errors
    /// If the client has been over its rate for longer than it may.
    pub(super) fn count(&mut self, is_publish: bool, bytes: usize, now: Millis) -> Result<(), Closing> {
        let limits = [&self.messages, &self.bytes];
        if limits.into_iter().flatten().all(|limit| limit.meter.is_idle(now)) {
            self.over_since = None;
        }
        let messages = self.messages.as_mut().filter(|_| is_publish);
        let for_messages = messages.map_or(Duration::ZERO, |limit| limit.count(1, now));
        let for_bytes = self
            .bytes
            .as_mut()
            .map_or(Duration::ZERO, |limit| limit.count(bytes as u64, now));
        let wait = for_messages.max(for_bytes);
        if wait.is_zero() {
            return Ok(());
        }
        self.until = Some(now.plus(wait.max(Duration::from_millis(1))));
        let since = *self.over_since.get_or_insert(now);
        if self.patience.is_some_and(|patience| now.since(since) > patience) {
            return Err(match for_messages > for_bytes {
                true => Closing::told(ReasonCode::MessageRateTooHigh, "over its message rate for too long"),
                false => Closing::told(ReasonCode::QuotaExceeded, "over its byte rate for too long"),
            });
        }
        Ok(())
    }

    /// Until when the client has to wait, if it has to.
    pub(super) fn until(&self) -> Option<Millis> {
        self.until
    }

    /// Whether the client had to wait until now.
    pub(super) fn has_waited(&mut self, now: Millis) -> bool {
        let is_over = self.until.is_some_and(|until| until <= now);
        if is_over {
            self.until = None;
        }
        is_over
    }
}
