//! What nodes ask each other, in bytes: of what only the node knows to which a client is connected.

use std::sync::Arc;

use crate::broker::inspect::{ClientPage, ClientQuery, ClientState, SubscriptionPage, SubscriptionState};
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::{read_client, write_client};
use crate::time::Millis;
use crate::topic::TopicFilter;
use crate::wire::{Malformed, Reader};

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Question {
    /// This client, which is connected to you.
    Client(Box<str>),
    /// Some of the clients that are connected to you.
    Clients {
        query: ClientQuery,
        cursor: Option<String>,
        limit: u32,
    },
    /// Close the connection of this client, if it is that with this number.
    Kick {
        client_id: Box<str>,
        connection: u64,
        ends_session: bool,
    },
    /// Some of the subscriptions of this client, which is connected to you.
    Subscriptions { client_id: Box<str>, skip: u64, limit: u32 },
}

const CLIENT: u8 = 1;
const CLIENTS: u8 = 2;
const KICK: u8 = 3;
const SUBSCRIPTIONS: u8 = 4;

/// In the place of a page, which begins with 0 or 1.
const BAD_CURSOR: u8 = 2;

impl Question {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let to = &mut bytes;
        match self {
            Question::Client(client_id) => {
                to.push(CLIENT);
                put_text(to, client_id);
            }
            Question::Clients { query, cursor, limit } => {
                to.push(CLIENTS);
                write_query(to, query);
                put_option(to, cursor.as_deref());
                put_u64(to, u64::from(*limit));
            }
            Question::Kick {
                client_id,
                connection,
                ends_session,
            } => {
                to.push(KICK);
                put_text(to, client_id);
                put_u64(to, *connection);
                to.push(u8::from(*ends_session));
            }
            Question::Subscriptions { client_id, skip, limit } => {
                to.push(SUBSCRIPTIONS);
                put_text(to, client_id);
                put_u64(to, *skip);
                put_u64(to, u64::from(*limit));
            }
        }
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Question, Malformed> {
        let from = &mut Reader::new(bytes);
        Ok(match from.u8()? {
            CLIENT => Question::Client(text(from)?.into()),
            CLIENTS => Question::Clients {
                query: read_query(from)?,
                cursor: option(from)?.map(str::to_owned),
                limit: from.u64()? as u32,
            },
            KICK => Question::Kick {
                client_id: text(from)?.into(),
                connection: from.u64()?,
                ends_session: from.u8()? != 0,
            },
            SUBSCRIPTIONS => Question::Subscriptions {
                client_id: text(from)?.into(),
                skip: from.u64()?,
                limit: from.u64()? as u32,
            },
            _ => return Err(Malformed("an unknown question")),
        })
    }
}

fn write_query(to: &mut Vec<u8>, query: &ClientQuery) {
    let ClientQuery {
        client_id,
        prefix,
        username,
        address,
        connected,
    } = query;
    for text in [client_id, prefix, username] {
        put_option(to, text.as_deref());
    }
    put_option(to, address.map(|address| address.to_string()).as_deref());
    to.push(connected.map_or(2, u8::from));
}

fn read_query(from: &mut Reader<'_>) -> Result<ClientQuery, Malformed> {
    Ok(ClientQuery {
        client_id: option(from)?.map(str::to_owned),
        prefix: option(from)?.map(str::to_owned),
        username: option(from)?.map(str::to_owned),
        address: match option(from)? {
            Some(address) => Some(address.parse().map_err(|_| Malformed("no address"))?),
            None => None,
        },
        connected: match from.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
    })
}

/// The answer to [`Question::Client`].
pub(super) fn write_state(to: &mut Vec<u8>, state: Option<&ClientState>) {
    to.push(u8::from(state.is_some()));
    if let Some(state) = state {
        put_state(to, state);
    }
}

pub(super) fn read_state(bytes: &[u8]) -> Result<Option<ClientState>, Malformed> {
    let from = &mut Reader::new(bytes);
    match from.u8()? {
        0 => Ok(None),
        _ => state(from).map(Some),
    }
}

/// The answer to [`Question::Clients`]; there is no page if the cursor is none of this node's.
pub(super) fn write_page(to: &mut Vec<u8>, page: Option<&ClientPage>) {
    let Some(page) = page else {
        return to.push(BAD_CURSOR);
    };
    put_option(to, page.next.as_deref());
    page.clients.iter().for_each(|state| put_state(to, state));
}

pub(super) fn read_page(bytes: &[u8]) -> Result<Option<ClientPage>, Malformed> {
    if bytes == [BAD_CURSOR] {
        return Ok(None);
    }
    let from = &mut Reader::new(bytes);
    let next = option(from)?.map(str::to_owned);
    let mut clients = Vec::new();
    while !from.is_empty() {
        clients.push(state(from)?);
    }
    Ok(Some(ClientPage { clients, next }))
}

fn put_state(to: &mut Vec<u8>, state: &ClientState) {
    put_text(to, &state.client_id);
    let mut info = Vec::new();
    if let Some(client) = &state.info {
        write_client(&mut info, client);
    }
    put_bytes(to, &info);
    let numbers = [
        u64::from(state.connected),
        state.subscriptions as u64,
        state.queued_messages as u64,
        state.queued_bytes as u64,
        state.inflight_messages as u64,
        state.expires_at.map_or(0, Millis::as_unix),
    ];
    numbers.into_iter().for_each(|number| put_u64(to, number));
}

fn state(from: &mut Reader<'_>) -> Result<ClientState, Malformed> {
    let client_id = Arc::from(text(from)?);
    let info = match bytes(from)? {
        [] => None,
        client => Some(Arc::new(read_client(client)?)),
    };
    let mut number = || from.u64().map(|number| number as usize);
    Ok(ClientState {
        client_id,
        info,
        node: None,
        connected: number()? != 0,
        subscriptions: number()?,
        queued_messages: number()?,
        queued_bytes: number()?,
        inflight_messages: number()?,
        expires_at: Some(number()? as u64).filter(|at| *at > 0).map(Millis::from_unix),
    })
}

/// The answer to [`Question::Subscriptions`].
pub(super) fn write_subscriptions(to: &mut Vec<u8>, page: Option<&SubscriptionPage>) {
    to.push(u8::from(page.is_some()));
    let Some(page) = page else { return };
    put_u64(to, page.next.map_or(u64::MAX, |next| next as u64));
    for SubscriptionState {
        filter,
        options,
        identifier,
    } in &page.subscriptions
    {
        put_text(to, filter.as_str());
        let flags = [options.no_local, options.retain_as_published].map(u64::from);
        let numbers = [options.qos as u64, flags[0], flags[1], options.retain_handling as u64];
        numbers.into_iter().for_each(|number| put_u64(to, number));
        put_u64(to, identifier.map_or(0, u64::from));
    }
}

pub(super) fn read_subscriptions(bytes: &[u8]) -> Result<Option<SubscriptionPage>, Malformed> {
    let from = &mut Reader::new(bytes);
    if from.u8()? == 0 {
        return Ok(None);
    }
    let next = from.u64()?;
    let mut subscriptions = Vec::new();
    while !from.is_empty() {
        subscriptions.push(subscription(from)?);
    }
    Ok(Some(SubscriptionPage {
        subscriptions,
        next: (next != u64::MAX).then_some(next as usize),
    }))
}

fn subscription(from: &mut Reader<'_>) -> Result<SubscriptionState, Malformed> {
    let filter = TopicFilter::parse(text(from)?).map_err(|_| Malformed("no Topic Filter"))?;
    let options = SubscriptionOptions {
        qos: match from.u64()? {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        },
        no_local: from.u64()? != 0,
        retain_as_published: from.u64()? != 0,
        retain_handling: match from.u64()? {
            0 => RetainHandling::SendAlways,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::SendNever,
        },
    };
    let identifier = from.u64()? as u32;
    Ok(SubscriptionState {
        filter,
        options,
        identifier: (identifier > 0).then_some(identifier),
    })
}

fn put_u64(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_be_bytes());
}

fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn bytes<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let length = from.u64()?;
    from.bytes(usize::try_from(length).unwrap_or(usize::MAX))
}

/// Of any length, and not only of what MQTT allows: what is asked for comes from people.
fn put_text(to: &mut Vec<u8>, text: &str) {
    put_bytes(to, text.as_bytes());
}

fn text<'a>(from: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    std::str::from_utf8(bytes(from)?).map_err(|_| Malformed("text is not well-formed UTF-8"))
}

fn put_option(to: &mut Vec<u8>, text: Option<&str>) {
    to.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(to, text);
    }
}

fn option<'a>(from: &mut Reader<'a>) -> Result<Option<&'a str>, Malformed> {
    match from.u8()? {
        0 => Ok(None),
        _ => text(from).map(Some),
    }
}

#[cfg(test)]
#[path = "questions_tests.rs"]
mod tests;
