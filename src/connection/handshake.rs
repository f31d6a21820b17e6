//! From the first byte to CONNACK.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Newcomer;
use super::buffers::{self, Batch};
use super::dialogue::WithLink;
use super::link::{Link, NO_ROOM};
use super::place::Held;
use crate::broker::Core;
use crate::codec::{decode, frame};
use crate::config::Config;
use crate::events::Event;
use crate::handlers::auth::Dialogue;
use crate::handlers::connect::Refusal;
use crate::handlers::{Client, connect, trace};
use crate::identity::Peer;
use crate::packet::Version;
use crate::reason::ReasonCode;

/// A client whose CONNACK is in its output, and bytes that came behind its CONNECT are in the link.
pub(super) async fn shake_hands<S: AsyncRead + AsyncWrite + Send + Unpin>(
    link: &mut Link<S>,
    newcomer: Newcomer,
    place: &Held,
) -> Option<Box<Client>> {
    let Newcomer {
        peer,
        direct,
        number,
        since,
    } = newcomer;
    let core = &place.core;
    let config = core.policies.of(peer.listener.as_deref())?.config;
    let limit = config.connect_timeout;
    let left = limit.saturating_sub(since.elapsed());
    let mut stopping = core.stopping.subscribe();
    let read = tokio::select! {
        biased;
        read = timeout(left, read_connect(link, &peer, config.max_packet_size)) => read.unwrap_or(Err(Some(NO_CONNECT))),
        // There is nobody yet who could be told.
        _ = stopping.wait_for(|stopping| *stopping) => return None,
    };
    let (input, size, end) = match read {
        Ok(read) => read,
        Err(refusal) => {
            if let Some(refusal) = refusal {
                refuse(link, core, &peer, &refusal).await;
            }
            return None;
        }
    };
    link.keep(&mut input[size..end].to_vec(), 0, end - size);
    let mut dialogue = WithLink {
        link,
        core,
        until: since + limit,
    };
    let accepting = accept(place, number, &config, &input[..size], peer.clone(), &mut dialogue);
    let outcome = timeout(limit, accepting).await;
    match outcome.unwrap_or(Err(TIMED_OUT)) {
        Ok(client) => {
            link.accept();
            if let Some(socket) = direct {
                client.session.outbox.allow_direct(socket);
            }
            tracing::debug!(client = &*client.info.client_id, %peer, version = %client.version(), "connected");
            Some(Box::new(client))
        }
        Err(refusal) => {
            refuse(link, core, &peer, &refusal).await;
            None
        }
    }
}

const NO_CONNECT: Refusal = Refusal::silent(ReasonCode::UnspecifiedError, "no CONNECT within the connect time-out");
const OTHER_PACKET: Refusal = Refusal::silent(ReasonCode::ProtocolError, "the first packet is not CONNECT");
const CROWDED: Refusal = Refusal::silent(ReasonCode::ServerBusy, NO_ROOM);
const TIMED_OUT: Refusal = Refusal::silent(ReasonCode::ServerUnavailable, "the session could not be had in time");

/// The bytes read, the size of the first packet, and where they end. An error if the connection ends, or with a refusal
/// if what arrives is no CONNECT.
async fn read_connect<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    peer: &Peer,
    max_packet_size: u32,
) -> Result<(Vec<u8>, usize, usize), Option<Refusal>> {
    loop {
        let (mut batch, end) = read_some(link).await.map_err(|reason| {
            if reason.kind() == io::ErrorKind::QuotaExceeded {
                return Some(CROWDED);
            }
            tracing::debug!(%peer, %reason, "connection lost before CONNECT");
            None
        })?;
        if end == 0 {
            return Err(None);
        }
        if let Some(refusal) = other_protocol(&batch.input[..end]) {
            return Err(Some(refusal));
        }
        // Anything but CONNECT is not worth waiting for the rest of [MQTT-3.1.0-1].
        let is_connect = batch.input[0] >> 4 == 1;
        let size = match frame::parse(&batch.input[..end], max_packet_size) {
            Ok(found) if is_connect => found.map(|frame| frame.size),
            Ok(_) => return Err(Some(OTHER_PACKET)),
            Err(error) => return Err(Some(Refusal::silent(error.reason, error.detail))),
        };
        if let Some(size) = size {
            let input = batch.input[..end].to_vec();
            buffers::give_back(batch);
            return Ok((input, size, end));
        }
        link.keep(&mut batch.input, 0, end);
        buffers::give_back(batch);
    }
}

/// What arrives next, behind what was kept, and where it ends: 0 at the end of the connection. Buffers are lent only while
/// there is something to read: connections that say nothing hold none.
pub(super) async fn read_some<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
) -> io::Result<(Box<Batch>, usize)> {
    poll_fn(|cx| {
        let mut batch = buffers::lend();
        match link.poll_read(cx, &mut batch.input) {
            Poll::Ready(read) => Poll::Ready(read.map(|end| (batch, end))),
            Poll::Pending => {
                buffers::give_back(batch);
                Poll::Pending
            }
        }
    })
    .await
}

/// Whether this is the beginning of a protocol that clients speak by mistake: it helps to know which.
fn other_protocol(input: &[u8]) -> Option<Refusal> {
    let detail = match input {
        [0x16, 0x03, ..] => "TLS on a port without TLS",
        [b'G', b'E', b'T', b' ', ..] => "HTTP on a port without WebSocket",
        [b'P', b'R', b'O', b'X', b'Y', b' ', ..] | [b'\r', b'\n', b'\r', b'\n', 0, ..] => {
            "a PROXY header on a port that expects none (--proxy-protocol)"
        }
        _ => return None,
    };
    Some(Refusal::silent(ReasonCode::ProtocolError, detail))
}

async fn accept(
    place: &Held,
    number: usize,
    config: &Config,
    input: &[u8],
    peer: Peer,
    dialogue: &mut dyn Dialogue,
) -> Result<Client, Refusal> {
    let core = &place.core;
    let malformed = Refusal::silent(ReasonCode::MalformedPacket, "no CONNECT");
    let Ok(Some(frame)) = frame::parse(input, config.max_packet_size) else {
        return Err(malformed);
    };
    let connect = decode::connect(&frame)?;
    let refuse = |reason, detail| Err(Refusal::of(&connect, reason, detail));
    if *core.stopping.borrow() {
        return refuse(ReasonCode::ServerShuttingDown, "the broker is shutting down");
    }
    if let Some(excess) = place.excess(number, config) {
        return refuse(ReasonCode::QuotaExceeded, excess);
    }
    let traced = core.trace.covers(connect.client_id, &peer);
    if traced {
        trace::received_connect(&connect, &peer);
    }
    let accepted = connect::accept(core, &connect, peer, dialogue).await;
    if let (true, Err(refusal)) = (traced, &accepted) {
        trace::refused(&connect, refusal);
    }
    let mut client = accepted?;
    client.stats.packets_received += 1;
    client.stats.bytes_received += frame.size as u64;
    Ok(client)
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(link: &mut Link<S>, core: &Core, peer: &Peer, refusal: &Refusal) {
    let Refusal {
        version,
        reason,
        detail,
        client_id,
        ..
    } = refusal;
    let version = version.map_or_else(String::new, |version: Version| version.to_string());
    let client = client_id.as_deref();
    tracing::debug!(client, %peer, version, %reason, detail, "connection refused");
    core.events.emit(|| Event::Error {
        client: None,
        reason: *reason,
        detail: (*detail).into(),
    });
    link.finish(&mut refusal.connack(), REFUSAL_TIME).await;
}

const REFUSAL_TIME: Duration = Duration::from_secs(1);
