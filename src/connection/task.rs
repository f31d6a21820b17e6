//! The life of a connection after its CONNACK.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffers::{self, Batch};
use super::link::Link;
use super::throttle::Throttle;
use crate::broker::{Due, TimerKey};
use crate::codec::{decode, encode, frame};
use crate::events::Event;
use crate::handlers::{self, Client, Closing, Waiting, trace};
use crate::reason::ReasonCode;
use crate::session::{Excerpt, InFlight, Inquiry};
use crate::time::Millis;

/// What the task remembers between batches.
struct Task<'a, S> {
    link: &'a mut Link<S>,
    /// Boxed, so that the futures which pass it on stay small.
    client: Box<Client>,
    /// What listeners of events will be told.
    ending: ReasonCode,
    /// When the last packet arrived.
    heard: Millis,
    /// Since when the socket takes nothing.
    stalled: Option<Millis>,
    alarm: Option<TimerKey>,
    throttle: Option<Box<Throttle>>,
    /// Nothing is read from the client until more is kept.
    held_back: bool,
}

/// Why the task has woken up.
enum Wake {
    /// So many bytes are in the input of the batch.
    Input(Box<Batch>, usize),
    /// A client that was held back may go on: with what was kept of its input.
    Kept,
    /// There is something in the outbox, or the socket takes output again.
    Work,
}

/// How far the packets of a batch have been handled.
enum Handled<'a> {
    All,
    /// So far that others should run first.
    Enough,
    /// So far that the client has to wait.
    Throttled,
    /// Up to one that waits for a hook.
    Waits(Waiting<'a>),
}

/// Writes after which the task looks for input and signals again.
const WRITES_IN_A_TURN: usize = 8;
/// Output above which nothing more is read from the client: it must take its answers first.
const OUTPUT_LIMIT: usize = 1024 * 1024;
/// Missing bytes of a packet that show that the client lives although the packet is not complete.
const LARGE_PARTIAL: usize = 1000;

impl<S> Task<'_, S> {
    fn disarm(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            self.client.core.timers.cancel(alarm);
        }
    }
}

impl<S> Drop for Task<'_, S> {
    /// Also when the program drops the future of the connection, or a hook panics. The session is given up after this,
    /// so that the end of this connection is told before the beginning of the next.
    fn drop(&mut self) {
        self.disarm();
        self.client.core.events.emit(|| Event::Disconnected {
            client: Arc::clone(&self.client.info),
            reason: self.ending,
        });
        self.client.tell_end();
    }
}

/// Serves the client until its connection ends.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<S>, mut client: Box<Client>) {
    let heard = client.core.clock.now();
    client.session.is_untold = false;
    let mut task = Task {
        throttle: Throttle::new(&client.config),
        link,
        client,
        ending: ReasonCode::UnspecifiedError,
        heard,
        stalled: None,
        alarm: None,
        held_back: false,
    };
    task.arm();
    let closing = task.serve().await;
    Box::pin(task.close(closing)).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<'_, S> {
    async fn serve(&mut self) -> Closing {
        // What came behind the CONNECT is handled before anything is read.
        let mut batch = buffers::lend();
        let (mut start, mut end) = (0, self.link.take_kept(&mut batch.input));
        loop {
            if let Err(closing) = self.turn(&mut batch, start, end).await {
                buffers::give_back(batch);
                return closing;
            }
            buffers::give_back(batch);
            (batch, end) = match poll_fn(|cx| self.poll_wake(cx)).await {
                Ok(Wake::Input(batch, end)) => (batch, end),
                Ok(Wake::Work) => (buffers::lend(), 0),
                Ok(Wake::Kept) => {
                    let mut batch = buffers::lend();
                    let end = self.link.take_kept(&mut batch.input);
                    (batch, end)
                }
                Err(closing) => return closing,
            };
            start = 0;
        }
    }

    /// Handles a batch of input, then moves messages to the client, then writes once.
    async fn turn(&mut self, batch: &mut Batch, start: usize, end: usize) -> Result<(), Closing> {
        poll_fn(|cx| self.poll_socket(cx)).await;
        buffers::borrow_output(batch, &mut self.client.output);
        let handled = self.handle_input(batch, start, end).await;
        batch.route.wake_subscribers();
        if let Err(closing) = handled {
            self.client.end_batch();
            return Err(closing);
        }
        self.heed_signals()?;
        for _ in 0..WRITES_IN_A_TURN {
            self.client.end_batch();
            self.client.release_answers();
            self.client.deliver(&mut batch.taken, &mut batch.route).await;
            batch.route.reuse(&mut batch.taken.emptied);
            let done = self.write().await?;
            // Written completely: there may be more for the client.
            if !done || !self.client.can_deliver() {
                break;
            }
        }
        self.client.end_batch();
        buffers::return_output(batch, &mut self.client.output);
        Ok(())
    }

    async fn handle_input(&mut self, batch: &mut Batch, start: usize, end: usize) -> Result<(), Closing> {
        if start == end {
            return Ok(());
        }
        let mut here = start;
        loop {
            match self.handle_some(batch, &mut here, end)? {
                Handled::All => break,
                Handled::Throttled => break,
                Handled::Enough => tokio::task::yield_now().await,
                Handled::Waits(waiting) => waiting.await?,
            }
        }
        if here > start || end - here > LARGE_PARTIAL {
            self.heard = self.client.core.clock.now();
        }
        self.link.keep(&mut batch.input, here, end);
        if self.throttled_until().is_some() {
            self.arm();
        }
        Ok(())
    }

    /// Handles packets until there is something to wait for. Not async: what it needs is not kept by the connection.
    fn handle_some<'a>(
        &'a mut self,
        batch: &'a mut Batch,
        here: &mut usize,
        end: usize,
    ) -> Result<Handled<'a>, Closing> {
        let Batch { input, route, .. } = batch;
        let max_packet_size = self.client.config.max_packet_size;
        let version = self.client.version();
        // The packet before may have gone through a hook that answered at once, and so let nobody else run.
        if route.has_worked_long() {
            route.wake_subscribers();
            return Ok(Handled::Enough);
        }
        while let Some(frame) = frame::parse(&input[*here..end], max_packet_size)? {
            if let Some(throttle) = &mut self.throttle {
                if throttle.until().is_some() {
                    return Ok(Handled::Throttled);
                }
                throttle.count(frame.is_publish(), frame.size, self.client.core.clock.now())?;
            }
            let packet = decode::packet(version, &frame)?;
            self.client.stats.packets_received += 1;
            self.client.stats.bytes_received += frame.size as u64;
            *here += frame.size;
            if self.client.traced {
                trace::received(&self.client, &packet, frame.size);
            }
            if handlers::may_wait(&self.client, &packet) {
                return Ok(Handled::Waits(handlers::handle_and_wait(
                    &mut self.client,
                    packet,
                    route,
                )));
            }
            handlers::handle(&mut self.client, &packet, route)?;
            if route.has_worked_long() {
                route.wake_subscribers();
                return Ok(Handled::Enough);
            }
        }
        Ok(Handled::All)
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Result<Wake, Closing>> {
        let mut written = false;
        if self.link.is_writing(&self.client.output) {
            match self.poll_output(cx, &mut false) {
                Poll::Ready(Err(closing)) => return Poll::Ready(Err(closing)),
                Poll::Ready(Ok(())) => written = true,
                Poll::Pending => {}
            }
        }
        if self.has_waited() {
            return Poll::Ready(Ok(Wake::Kept));
        }
        if self.throttled_until().is_some() {
            if let Poll::Ready(closing) = self.poll_held_back(cx) {
                return Poll::Ready(Err(closing));
            }
        } else if self.is_read() {
            let mut batch = buffers::lend();
            match self.link.poll_read(cx, &mut batch.input) {
                Poll::Ready(Ok(0)) => {
                    buffers::give_back(batch);
                    return Poll::Ready(Err(Closing::Lost(None)));
                }
                Poll::Ready(Err(error)) => {
                    buffers::give_back(batch);
                    return Poll::Ready(Err(error.into()));
                }
                Poll::Ready(Ok(end)) => return Poll::Ready(Ok(Wake::Input(batch, end))),
                Poll::Pending => buffers::give_back(batch),
            }
        }
        let is_writing = self.link.is_writing(&self.client.output);
        if written || (!is_writing && (self.client.can_deliver() || self.client.can_release_answers())) {
            return Poll::Ready(Ok(Wake::Work));
        }
        let appetite = if is_writing {
            None
        } else {
            self.client.appetite_for_live()
        };
        match self.client.session.outbox.poll_ready(cx, appetite) {
            true => Poll::Ready(Ok(Wake::Work)),
            false => Poll::Pending,
        }
    }

    /// Reads a little from a client that is held back, and keeps it: so that it is noticed when the client goes. Ready if it
    /// has.
    fn poll_held_back(&mut self, cx: &mut Context<'_>) -> Poll<Closing> {
        while self.link.may_keep_more() {
            let mut batch = buffers::lend();
            let read = self.link.poll_read(cx, &mut batch.input);
            if let Poll::Ready(Ok(end)) = read {
                self.link.keep(&mut batch.input, 0, end);
            }
            buffers::give_back(batch);
            match ready!(read) {
                Ok(0) => return Poll::Ready(Closing::Lost(None)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
        }
        Poll::Pending
    }

    /// Tries to write the output; whether all of it is written. Does not wait.
    async fn write(&mut self) -> Result<bool, Closing> {
        let mut progress = false;
        poll_fn(|cx| match self.poll_output(cx, &mut progress) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(true)),
            Poll::Ready(Err(closing)) => Poll::Ready(Err(closing)),
            Poll::Pending => Poll::Ready(Ok(false)),
        })
        .await
    }

    fn poll_output(&mut self, cx: &mut Context<'_>, progress: &mut bool) -> Poll<Result<(), Closing>> {
        let before = self.client.output.len();
        let result = self.link.poll_write(cx, &mut self.client.output, progress);
        match result {
            Poll::Ready(Ok(())) => {
                self.client.stats.bytes_sent += before as u64;
                self.stalled = None;
                if self.alarm.is_none() {
                    self.arm();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => {
                self.client.stats.bytes_sent += self.link.compact(&mut self.client.output) as u64;
                if *progress || self.stalled.is_none() {
                    self.stalled = Some(self.client.core.clock.now());
                    self.arm();
                }
                Poll::Pending
            }
        }
    }

    /// Nothing may be written before: a publisher may be writing to the socket, and have left the end of a packet. From
    /// here to the end of the turn nobody else writes, so answers come in the order of what they answer.
    fn poll_socket(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Some(mut rest) = ready!(self.client.session.outbox.poll_awake(cx)) {
            self.client.output.append(&mut rest);
        }
        Poll::Ready(())
    }

    fn heed_signals(&mut self) -> Result<(), Closing> {
        let signals = self.client.session.outbox.take_signals();
        if signals.alarm {
            self.disarm();
            self.check_deadlines()?;
            self.arm();
        }
        if signals.recheck {
            self.client.recheck()?;
        }
        if signals.retrace {
            self.client.retrace();
        }
        for inquiry in signals.inquiries.into_iter().flat_map(|all| *all) {
            self.answer(inquiry);
        }
        if let Some(done) = signals.drain {
            self.client.publish_will(done);
        }
        let own = self.client.session.token.map(|token| token.number);
        if let Some(kick) = signals.kick.filter(|kick| Some(kick.connection) == own) {
            if kick.ends_session {
                self.client.session.outbox.condemn(kick.reason);
            }
            return Err(Closing::told(kick.reason, "closed by the broker"));
        }
        if signals.takeover {
            return Err(Closing::told(
                ReasonCode::SessionTakenOver,
                "another connection uses the Client Identifier",
            ));
        }
        match signals.close {
            Some(reason) => Err(Closing::told(reason, "closed by the broker")),
            None => Ok(()),
        }
    }

    /// Who has asked may have gone.
    fn answer(&self, inquiry: Inquiry) {
        let session = &self.client.session;
        match inquiry {
            Inquiry::Subscriptions { range, answer } => {
                let _ = answer.send(Excerpt::of(&session.subscriptions, range));
            }
            Inquiry::InFlight { answer } => {
                let _ = answer.send(InFlight {
                    key: session.outbox.key,
                    sent: session.inflight.sent().collect(),
                });
            }
        }
    }

    fn check_deadlines(&mut self) -> Result<(), Closing> {
        let now = self.client.core.clock.now();
        if self.write_deadline().is_some_and(|at| at <= now) {
            return Err(Closing::told(
                ReasonCode::UnspecifiedError,
                "the socket took nothing for the write time-out",
            ));
        }
        if self.client.expires().is_some_and(|at| at <= now) {
            return Err(Closing::told(
                ReasonCode::NotAuthorized,
                "the authentication has expired",
            ));
        }
        if self.silence_deadline().is_some_and(|at| at <= now) {
            self.client
                .core
                .events
                .emit(|| Event::KeepAliveTimeout(Arc::clone(&self.client.info)));
            // [MQTT-3.1.2-22]
            return Err(Closing::told(
                ReasonCode::KeepAliveTimeout,
                "nothing heard for 1.5 times the Keep Alive",
            ));
        }
        Ok(())
    }

    /// Until when the client is held back, if it is.
    fn throttled_until(&self) -> Option<Millis> {
        self.throttle.as_ref().and_then(|throttle| throttle.until())
    }

    /// Whether the client was held back until now.
    fn has_waited(&mut self) -> bool {
        let Some(throttle) = &mut self.throttle else {
            return false;
        };
        let now = self.client.core.clock.now();
        let is_over = throttle.has_waited(now);
        if is_over {
            self.heard = now;
        }
        is_over
    }

    /// Whether something is read from the client.
    fn is_read(&mut self) -> bool {
        let held_back = self.client.is_held_back();
        if std::mem::replace(&mut self.held_back, held_back) && !held_back {
            self.heard = self.client.core.clock.now();
        }
        !held_back && self.client.output.len() < OUTPUT_LIMIT
    }

    /// When the client will have been silent for too long. Never while the broker does not read from it.
    fn silence_deadline(&self) -> Option<Millis> {
        let allowed = self.client.agreed.silence_allowed?;
        let is_read = self.client.output.len() < OUTPUT_LIMIT && self.throttled_until().is_none() && !self.held_back;
        is_read.then(|| self.heard.plus(allowed))
    }

    fn write_deadline(&self) -> Option<Millis> {
        self.stalled.map(|since| since.plus(self.client.config.write_timeout))
    }

    /// Sees to it that the task wakes at the next deadline, at the latest.
    fn arm(&mut self) {
        let next = [
            self.silence_deadline(),
            self.write_deadline(),
            self.throttled_until(),
            self.client.expires(),
        ]
        .into_iter()
        .flatten()
        .min();
        let Some(at) = next else { return };
        let timers = &self.client.core.timers;
        if let Some(alarm) = self.alarm {
            if alarm.at() <= at {
                return;
            }
            timers.cancel(alarm);
        }
        self.alarm = Some(timers.set(at, Due::Alarm(Arc::clone(&self.client.session.outbox))));
    }

    async fn close(&mut self, closing: Closing) {
        self.disarm();
        self.ending = closing.reason();
        self.log(&closing);
        if !matches!(closing, Closing::Lost(_)) && closing.reason() != ReasonCode::SessionTakenOver {
            self.settle_answers().await;
        }
        if closing == Closing::Disconnected {
            // Answers to what came before the DISCONNECT in the same batch.
            let mut batch = buffers::lend();
            self.client.release_answers();
            self.client.deliver(&mut batch.taken, &mut batch.route).await;
            buffers::give_back(batch);
            self.link.finish(&mut self.client.output, FAREWELL_TIME).await;
        }
        if let Closing::Told { reason, detail } = &closing {
            let flushed = !is_farewell(*reason) || self.flush().await;
            // Behind half a packet nothing more can be said.
            if self.client.version().is_v5() && flushed {
                let limit = self.client.agreed.maximum_packet_size;
                let reference = self.client.core.config().server_reference.clone();
                let reference = reference.filter(|_| has_reference(*reason));
                let output = &mut self.client.output;
                encode::disconnect(output, *reason, Some(detail), reference.as_deref(), limit);
                if self.client.traced {
                    trace::sent_disconnect(&self.client, *reason);
                }
                self.client.stats.packets_sent += 1;
            }
            let patience = match reason {
                // The next owner waits for the session.
                ReasonCode::SessionTakenOver => Duration::ZERO,
                reason if is_farewell(*reason) => self.client.core.config().drain_timeout,
                _ => FAREWELL_TIME,
            };
            self.link.finish(&mut self.client.output, patience).await;
        }
        self.client.end_batch();
    }

    /// Waits until what the client has sent is answered, which may have to be kept before; not for long.
    async fn settle_answers(&mut self) {
        let settle = async {
            loop {
                self.client.release_answers();
                if !self.client.holds_answers() {
                    return;
                }
                let outbox = &self.client.session.outbox;
                poll_fn(|cx| match outbox.poll_ready(cx, None) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
                .await;
                outbox.take_signals();
            }
        };
        let _ = tokio::time::timeout(FAREWELL_TIME, settle).await;
    }

    /// Sends what the client can be sent, for as long as a shutdown may take.
    /// Whether the output ends with a whole packet then.
    async fn flush(&mut self) -> bool {
        let mut batch = buffers::lend();
        let limit = self.client.core.config().drain_timeout;
        let deadline = self.client.core.clock.now().plus(limit);
        let mut flushed = true;
        while flushed && self.client.can_deliver() && self.client.core.clock.now() < deadline {
            self.client.deliver(&mut batch.taken, &mut batch.route).await;
            flushed = self.link.finish(&mut self.client.output, limit).await;
        }
        buffers::give_back(batch);
        flushed
    }

    fn log(&self, closing: &Closing) {
        let client = &*self.client.info.client_id;
        match closing {
            Closing::Disconnected => tracing::debug!(client, "disconnected"),
            Closing::Lost(reason) => tracing::debug!(client, reason, "connection lost"),
            Closing::Told { reason, detail } => {
                tracing::debug!(client, %reason, detail = &**detail, "connection closed");
                self.client.core.events.emit(|| Event::Error {
                    client: Some(Arc::clone(&self.client.info)),
                    reason: *reason,
                    detail: detail.as_ref().into(),
                });
            }
        }
    }
}

/// Time that a client has to take the last that it is sent.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Whether the client is to be somewhere else, which is no fault of its own: it gets what there is for it before.
fn is_farewell(reason: ReasonCode) -> bool {
    reason == ReasonCode::ServerShuttingDown || has_reference(reason)
}

/// Whether the Reason Code tells the client to use another server.
fn has_reference(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::UseAnotherServer | ReasonCode::ServerMoved)
}
