//! Connections to Redis, and what its errors mean.

use std::borrow::Borrow;

use redis::{Cmd, Connection, ConnectionLike, RedisError, ServerError, Value};

use super::connect::{self, told};
#[cfg(any(feature = "cli", test))]
use super::reply::{bytes, list};
use super::slots::Slots;
use crate::store::{RedisSettings, StoreError};

/// Bytes of commands that are sent before their replies are read: as many as are made at a time.
const AT_ONCE: usize = 4 << 20;

/// A connection to each server that writes, which is one, or many in a cluster. Commands go one pipeline after the other.
pub(super) struct Link {
    pub(super) servers: Vec<Connection>,
    /// Which keys are where; `None` if there is one place for all.
    pub(super) slots: Option<Slots>,
    /// Where it leads, without names and passwords.
    pub(super) address: String,
    /// It must not be used any more: replies may come that nobody waits for.
    pub(super) is_lost: bool,
}

impl Link {
    /// Connects. Files with passwords and certificates are read anew.
    pub(super) fn connect(settings: &RedisSettings) -> Result<Link, StoreError> {
        connect::connect(settings)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.slots.is_some()
    }

    /// Which of the servers has this key.
    pub(super) fn server_of(&self, key: &str) -> usize {
        self.slots.as_ref().map_or(0, |slots| slots.server_of_key(key))
    }

    /// Sends all commands, [some of them](AT_ONCE) at a time; the reply to each, in their order. If there is an error, some may
    /// have run, and the connections must not be used any more.
    pub(super) fn run<C: Borrow<Cmd>>(
        &mut self,
        commands: impl IntoIterator<Item = C>,
    ) -> Result<Vec<Value>, StoreError> {
        let replies = match &self.slots {
            None => pipeline(&mut self.servers[0], commands),
            Some(slots) => pipelines(&mut self.servers, commands, |_, command| slots.server_of(command)),
        };
        replies.map_err(|error| self.lost(&error))
    }

    /// Sends one command.
    pub(super) fn ask(&mut self, command: Cmd) -> Result<Value, StoreError> {
        let reply = self.run(&[command])?.pop().unwrap_or(Value::Nil);
        self.checked(reply)
    }

    /// Sends a command to each server: the replies.
    pub(super) fn ask_each(&mut self, command: &Cmd) -> Result<Vec<Value>, StoreError> {
        let commands = std::iter::repeat_n(command, self.servers.len());
        let replies = pipelines(&mut self.servers, commands, |number, _| number).map_err(|error| self.lost(&error))?;
        replies.into_iter().map(|reply| self.checked(reply)).collect()
    }

    #[cfg(any(feature = "cli", test))]
    /// All keys that match a pattern, some of them more than once.
    pub(super) fn scan(&mut self, pattern: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = Vec::new();
        for server in 0..self.servers.len() {
            let mut cursor = b"0".to_vec();
            loop {
                let mut command = redis::cmd("SCAN");
                command.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
                let reply = pipeline(&mut self.servers[server], &[command]).map_err(|error| self.lost(&error))?;
                let reply = reply.into_iter().next().unwrap_or(Value::Nil);
                let mut reply = list(self.checked(reply)?)?.into_iter();
                cursor = bytes(reply.next().unwrap_or(Value::Nil))?;
                for key in list(reply.next().unwrap_or(Value::Nil))? {
                    keys.push(bytes(key)?);
                }
                if cursor == b"0" {
                    break;
                }
            }
        }
        Ok(keys)
    }

    /// The reply, if it is no error.
    pub(super) fn checked(&self, reply: Value) -> Result<Value, StoreError> {
        match reply {
            Value::ServerError(error) => Err(self.fault(&error)),
            reply => Ok(reply),
        }
    }

    /// What an error that the server has replied means.
    pub(super) fn fault(&self, error: &ServerError) -> StoreError {
        let (code, details) = (error.code(), error.details().unwrap_or_default());
        let said = format!("Redis at {}: {code} {details}", self.address);
        match code {
            "OOM" => StoreError::Unavailable(format!(
                "Redis at {} uses as much memory as its maxmemory allows: raise that",
                self.address
            )),
            "WRONGTYPE" => StoreError::Damaged(said),
            // What a script says that meets something which none of the scripts has put there.
            "ERR" if details.contains("user_script") => StoreError::Damaged(said),
            "NOPERM" | "NOAUTH" | "WRONGPASS" => {
                StoreError::Unavailable(format!("{said} (docs/redis.md says what its user must be allowed)"))
            }
            _ => StoreError::Unavailable(said),
        }
    }

    fn lost(&mut self, error: &RedisError) -> StoreError {
        self.is_lost = true;
        StoreError::Unavailable(format!("Redis at {}: {}", self.address, told(error)))
    }
}

fn pipeline<C: Borrow<Cmd>>(
    server: &mut Connection,
    commands: impl IntoIterator<Item = C>,
) -> Result<Vec<Value>, RedisError> {
    let (mut packed, mut count, mut replies) = (Vec::new(), 0, Vec::new());
    let mut commands = commands.into_iter().peekable();
    while let Some(command) = commands.next() {
        command.borrow().write_packed_command(&mut packed);
        count += 1;
        if packed.len() >= AT_ONCE || commands.peek().is_none() {
            replies.extend(server.req_packed_commands(&packed, 0, count)?);
            packed.clear();
            count = 0;
        }
    }
    Ok(replies)
}

/// Each command goes to its server, by its number and what it is; all servers work at the same time.
fn pipelines<C: Borrow<Cmd>>(
    servers: &mut [Connection],
    commands: impl IntoIterator<Item = C>,
    place: impl Fn(usize, &Cmd) -> usize,
) -> Result<Vec<Value>, RedisError> {
    let (mut packed, mut places, mut replies) = (vec![Vec::new(); servers.len()], Vec::new(), Vec::new());
    let mut size = 0;
    let mut commands = commands.into_iter().enumerate().peekable();
    while let Some((number, command)) = commands.next() {
        let place = place(number, command.borrow());
        let before = packed[place].len();
        command.borrow().write_packed_command(&mut packed[place]);
        size += packed[place].len() - before;
        places.push(place);
        if size >= AT_ONCE || commands.peek().is_none() {
            exchange(servers, &mut packed, &places, &mut replies)?;
            places.clear();
            size = 0;
        }
    }
    Ok(replies)
}

/// Sends what is for each server, and reads the replies, which come from these places.
fn exchange(
    servers: &mut [Connection],
    packed: &mut [Vec<u8>],
    places: &[usize],
    replies: &mut Vec<Value>,
) -> Result<(), RedisError> {
    for (server, bytes) in servers.iter_mut().zip(packed).filter(|(_, bytes)| !bytes.is_empty()) {
        server.send_packed_command(bytes)?;
        bytes.clear();
    }
    for place in places {
        replies.push(servers[*place].recv_response()?);
    }
    Ok(())
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::redis::testing::{Cluster, RedisServer};

    /// They are sent in parts: each has its reply, in the order of the commands.
    fn more_than_are_sent_at_once_are_answered(settings: &RedisSettings) {
        let mut link = Link::connect(settings).expect("connects");
        let value = vec![b'x'; AT_ONCE / 5];
        let append = |number: usize| {
            let mut command = redis::cmd("APPEND");
            command.arg(format!("key {}", number % 7)).arg(&value[number..]);
            command
        };
        let replies = link.run((0..23).map(append)).expect("are answered");
        let mut lengths = [0; 7];
        for (number, reply) in replies.iter().enumerate() {
            lengths[number % 7] += value.len() - number;
            assert_eq!(*reply, Value::Int(lengths[number % 7] as i64));
        }
        assert_eq!(replies.len(), 23);
        assert_eq!(link.run(Vec::<Cmd>::new()), Ok(Vec::new()));
    }

    #[test]
    fn one_server_answers_more_than_is_sent_at_once() {
        more_than_are_sent_at_once_are_answered(&RedisServer::start(&[]).settings());
    }

    #[test]
    fn a_cluster_answers_more_than_is_sent_at_once() {
        more_than_are_sent_at_once_are_answered(&Cluster::start(3).settings());
    }
}
