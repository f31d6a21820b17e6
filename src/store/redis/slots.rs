//! Which server of a Redis Cluster has which keys.

use redis::{Arg, Cmd, Value};

use super::reply::{list, number, text};

/// Slots into which a cluster divides all keys.
const SLOTS: usize = 16_384;

/// For each slot, the place of its server in a list.
#[derive(Debug)]
pub(super) struct Slots {
    servers: Box<[u16]>,
}

/// A server that writes.
pub(super) type Address = (String, u16);

impl Slots {
    /// What a node has answered to `CLUSTER SLOTS`. A node that does not know its own name is where it was asked.
    pub(super) fn read(answer: Value, own: &str) -> Result<(Slots, Vec<Address>), String> {
        let mut addresses: Vec<Address> = Vec::new();
        let mut servers = vec![None; SLOTS];
        for range in list(answer).map_err(|error| error.to_string())? {
            let (first, last, (host, port)) = read_range(range).map_err(|error| error.to_string())?;
            let address = (if host.is_empty() { own.to_owned() } else { host }, port);
            let place = addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
                addresses.push(address);
                addresses.len() - 1
            });
            let slots = servers
                .get_mut(first..=last)
                .ok_or("it names slots that there are not")?;
            slots.fill(Some(place as u16));
        }
        let servers: Option<Vec<_>> = servers.into_iter().collect();
        let servers = servers.ok_or("not all slots have a server")?;
        let servers = servers.into();
        Ok((Slots { servers }, addresses))
    }

    /// The server to which a command goes, by the hash tag of its first key.
    pub(super) fn server_of(&self, command: &Cmd) -> usize {
        let mut arguments = command.args_iter();
        let key = match arguments.next() {
            Some(Arg::Simple(b"EVAL" | b"EVALSHA")) => arguments.nth(2),
            Some(Arg::Simple(b"XINFO")) => arguments.nth(1),
            Some(Arg::Simple(b"XREAD")) => arguments
                .skip_while(|argument| !matches!(argument, Arg::Simple(b"STREAMS")))
                .nth(1),
            _ => arguments.next(),
        };
        match key {
            Some(Arg::Simple(key)) => self.server_of_bytes(key),
            _ => 0,
        }
    }

    /// The server that has this key.
    pub(super) fn server_of_key(&self, key: &str) -> usize {
        self.server_of_bytes(key.as_bytes())
    }

    fn server_of_bytes(&self, key: &[u8]) -> usize {
        usize::from(self.servers[slot(tag(key))])
    }
}

fn read_range(range: Value) -> Result<(usize, usize, Address), crate::store::StoreError> {
    let mut parts = list(range)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let (first, last) = (number(next())? as usize, number(next())? as usize);
    let mut server = list(next())?.into_iter();
    let mut next = || server.next().unwrap_or(Value::Nil);
    let host = match next() {
        Value::Nil => String::new(),
        host => text(host)?,
    };
    Ok((first, last, (host, number(next())? as u16)))
}

/// What is between the first braces, with which our keys have their homes.
fn tag(key: &[u8]) -> &[u8] {
    let start = key.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
    let end = key[start..].iter().position(|byte| *byte == b'}');
    end.map_or(key, |end| &key[start..start + end])
}

fn slot(bytes: &[u8]) -> usize {
    usize::from(crc16(0, bytes)) % SLOTS
}

/// CRC16 (XMODEM), which the specification of Redis Cluster makes slots of, going on from what was before.
pub(super) fn crc16(before: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(before, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(0, b"123456789"), 0x31C3);
        assert_eq!(crc16(crc16(0, b"1234"), b"56789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(tag(b"p:{12}:s:{x}"), b"12");
        assert_eq!(tag(b"p"), b"p");
    }

    #[test]
    fn commands_go_to_the_server_of_their_key() {
        let range = |first, last, port| {
            let server = Value::Array(vec![Value::BulkString(b"h".to_vec()), Value::Int(port)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), server])
        };
        let answer = Value::Array(vec![range(0, 8000, 1), range(8001, 16_383, 2)]);
        let (slots, addresses) = Slots::read(answer, "own").expect("is complete");
        assert_eq!(addresses, [("h".to_owned(), 1), ("h".to_owned(), 2)]);
        let key = |tag: &str| format!("p:{{{tag}}}:hw");
        let low = (0..99)
            .map(|n| n.to_string())
            .find(|tag| slot(tag.as_bytes()) <= 8000)
            .expect("one");
        let high = (0..99)
            .map(|n| n.to_string())
            .find(|tag| slot(tag.as_bytes()) > 8000)
            .expect("one");
        for (tag, server) in [(low, 0), (high, 1)] {
            assert_eq!(slots.server_of(redis::cmd("GET").arg(key(&tag))), server);
            assert_eq!(
                slots.server_of(redis::cmd("EVALSHA").arg("name").arg(1).arg(key(&tag))),
                server
            );
            let mut read = redis::cmd("XREAD");
            read.arg(&["BLOCK", "9", "COUNT", "9", "STREAMS"])
                .arg(key(&tag))
                .arg("1-0");
            assert_eq!(slots.server_of(&read), server);
            assert_eq!(
                slots.server_of(redis::cmd("XINFO").arg("STREAM").arg(key(&tag))),
                server
            );
        }
        assert!(Slots::read(Value::Array(vec![range(0, 8000, 1)]), "own").is_err());
        assert!(Slots::read(Value::Array(vec![range(0, 80_000, 1)]), "own").is_err());
    }
}
