//! Connections to Redis, and what its errors mean.

use redis::{Cmd, Connection, ConnectionLike, RedisError, ServerError, Value};

use super::connect::{self, told};
#[cfg(any(feature = "cli", test))]
use super::reply::{bytes, list};
use super::slots::Slots;
use crate::store::{RedisSettings, StoreError};

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

    /// Sends all commands at once; the reply to each, in their order. If there is an error, some may have run, and the
    /// connections must not be used any more.
    pub(super) fn run(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let replies = match &self.slots {
            None => pipeline(&mut self.servers[0], commands),
            Some(slots) => {
                let places: Vec<_> = commands.iter().map(|command| slots.server_of(command)).collect();
                pipelines(&mut self.servers, commands, &places)
            }
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
        let commands = vec![command.clone(); self.servers.len()];
        let places: Vec<_> = (0..self.servers.len()).collect();
        let replies = pipelines(&mut self.servers, &commands, &places).map_err(|error| self.lost(&error))?;
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

fn pipeline(server: &mut Connection, commands: &[Cmd]) -> Result<Vec<Value>, RedisError> {
    let mut bytes = Vec::new();
    commands
        .iter()
        .for_each(|command| command.write_packed_command(&mut bytes));
    server.req_packed_commands(&bytes, 0, commands.len())
}

/// Each command goes to its server; all servers work at the same time.
fn pipelines(servers: &mut [Connection], commands: &[Cmd], places: &[usize]) -> Result<Vec<Value>, RedisError> {
    let mut packed = vec![Vec::new(); servers.len()];
    for (command, place) in commands.iter().zip(places) {
        command.write_packed_command(&mut packed[*place]);
    }
    for (server, bytes) in servers.iter_mut().zip(&packed).filter(|(_, bytes)| !bytes.is_empty()) {
        server.send_packed_command(bytes)?;
    }
    places.iter().map(|place| servers[*place].recv_response()).collect()
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
