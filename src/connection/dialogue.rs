//! Asking a client for more than its CONNECT, before it is accepted.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::buffers;
use super::handshake::read_some;
use super::link::Link;
use crate::broker::Core;
use crate::codec::frame;
use crate::handlers::auth::{Answer, Dialogue};
use crate::handlers::connect::Refusal;
use crate::reason::ReasonCode;

/// A [`Dialogue`] on a connection, until the time for connecting is over.
pub(super) struct WithLink<'a, S> {
    pub(super) link: &'a mut Link<S>,
    pub(super) core: &'a Arc<Core>,
    pub(super) until: Instant,
}

/// Bytes of the largest answer: nobody has proven to be worth more.
const LARGEST_ANSWER: u32 = 8 * 1024;
const GONE: Refusal = Refusal::silent(
    ReasonCode::UnspecifiedError,
    "the connection ended while it was asked for more",
);
const TOO_LATE: Refusal = Refusal::silent(ReasonCode::UnspecifiedError, "no AUTH within the connect time-out");
const STOPPING: Refusal = Refusal::silent(ReasonCode::ServerShuttingDown, "the broker is shutting down");

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Dialogue for WithLink<'_, S> {
    fn ask(&mut self, mut packet: Vec<u8>) -> Answer<'_> {
        Box::pin(async move {
            let mut stopping = self.core.stopping.subscribe();
            let asking = async {
                let left = self.until.saturating_duration_since(Instant::now());
                match self.link.finish(&mut packet, left).await {
                    true => read_packet(self.link).await,
                    false => Err(GONE),
                }
            };
            tokio::select! {
                biased;
                answer = timeout_at(self.until, asking) => answer.unwrap_or(Err(TOO_LATE)),
                _ = stopping.wait_for(|stopping| *stopping) => Err(STOPPING),
            }
        })
    }
}

async fn read_packet<S: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<S>) -> Result<Vec<u8>, Refusal> {
    // The client may have sent more than its CONNECT at once.
    let mut batch = buffers::lend();
    let mut end = link.take_kept(&mut batch.input);
    loop {
        let found = frame::parse(&batch.input[..end], LARGEST_ANSWER);
        let found = found.map_err(|error| Refusal::silent(error.reason, error.detail))?;
        let packet = found.map(|frame| batch.input[..frame.size].to_vec());
        let read = packet.as_ref().map_or(0, Vec::len);
        link.keep(&mut batch.input, read, end);
        buffers::give_back(batch);
        if let Some(packet) = packet {
            return Ok(packet);
        }
        (batch, end) = read_some(link).await.map_err(|_| GONE)?;
        if end == 0 {
            buffers::give_back(batch);
            return Err(GONE);
        }
    }
}
