//! A client, as its will remembers it: what decides whether it may publish, and what hooks may ask about.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::identity::{ClientCertificate, ClientInfo, Peer, Proof, Rights, Transport};
use crate::packet::Version;
use crate::time::Millis;
use crate::wire::{Malformed, Reader, put_binary};

/// Appends a client. The request that began a WebSocket connection is left out.
pub(crate) fn write_client(to: &mut Vec<u8>, client: &ClientInfo) {
    put_text(to, &client.client_id);
    put_option(to, client.username.as_deref(), put_text);
    to.push(match client.version {
        Version::V31 => 3,
        Version::V311 => 4,
        Version::V5 => 5,
    });
    to.extend_from_slice(&client.connected_at.as_unix().to_be_bytes());
    to.extend_from_slice(&client.keep_alive.to_be_bytes());
    to.extend_from_slice(&client.session_expiry.to_be_bytes());
    write_proof(to, client.proof);
    put_option(to, client.rights.as_deref(), write_rights);
    write_peer(to, &client.peer);
}

/// Reads what [`write_client`] has written.
pub(crate) fn read_client(bytes: &[u8]) -> Result<ClientInfo, Malformed> {
    let from = &mut Reader::new(bytes);
    Ok(ClientInfo {
        client_id: text(from)?.into(),
        username: option(from, text)?.map(Box::from),
        version: match from.u8()? {
            3 => Version::V31,
            4 => Version::V311,
            5 => Version::V5,
            _ => return Err(Malformed("unknown version")),
        },
        connected_at: Millis::from_unix(from.u64()?),
        keep_alive: from.u16()?,
        session_expiry: from.u32()?,
        proof: proof(from)?,
        rights: option(from, rights)?.map(Arc::new),
        peer: peer(from)?,
    })
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    let longest = text.len().min(usize::from(u16::MAX));
    let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end));
    put_binary(to, &text.as_bytes()[..end.unwrap_or_default()]);
}

fn text<'a>(from: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    std::str::from_utf8(from.binary()?).map_err(|_| Malformed("text is not well-formed UTF-8"))
}

fn put_option<T: ?Sized>(to: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    to.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(to, value);
    }
}

fn option<'a, T>(
    from: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match from.u8()? {
        0 => Ok(None),
        _ => read(from).map(Some),
    }
}

fn write_proof(to: &mut Vec<u8>, proof: Proof) {
    match proof {
        Proof::Nothing => to.push(0),
        Proof::Certificate => to.push(1),
        Proof::Password => to.push(2),
        #[cfg(feature = "jwt")]
        Proof::Token(key) => {
            to.push(3);
            to.extend_from_slice(&key.to_be_bytes());
        }
        #[cfg(feature = "http-auth")]
        Proof::Endpoint => to.push(4),
    }
}

fn proof(from: &mut Reader<'_>) -> Result<Proof, Malformed> {
    Ok(match from.u8()? {
        1 => Proof::Certificate,
        2 => Proof::Password,
        3 => {
            let _key = from.u64()?;
            #[cfg(feature = "jwt")]
            let proof = Proof::Token(_key);
            #[cfg(not(feature = "jwt"))]
            let proof = Proof::Nothing;
            proof
        }
        #[cfg(feature = "http-auth")]
        4 => Proof::Endpoint,
        _ => Proof::Nothing,
    })
}

fn write_rights(to: &mut Vec<u8>, rights: &Rights) {
    to.push(u8::from(rights.everything));
    for list in [&rights.read, &rights.write, &rights.never_read, &rights.never_write] {
        write_list(to, list);
    }
}

fn rights(from: &mut Reader<'_>) -> Result<Rights, Malformed> {
    Ok(Rights {
        everything: from.u8()? != 0,
        read: list(from)?,
        write: list(from)?,
        never_read: list(from)?,
        never_write: list(from)?,
    })
}

fn write_list(to: &mut Vec<u8>, list: &[Box<str>]) {
    to.extend_from_slice(&(list.len() as u32).to_be_bytes());
    list.iter().for_each(|text| put_text(to, text));
}

fn list(from: &mut Reader<'_>) -> Result<Vec<Box<str>>, Malformed> {
    (0..from.u32()?).map(|_| text(from).map(Box::from)).collect()
}

fn write_peer(to: &mut Vec<u8>, peer: &Peer) {
    put_option(to, peer.address.as_ref(), write_address);
    to.push(match peer.transport {
        Transport::Tcp => 0,
        Transport::Tls => 1,
        Transport::WebSocket => 2,
        Transport::SecureWebSocket => 3,
        Transport::Unix => 4,
    });
    put_option(to, peer.username.as_deref(), put_text);
    put_option(to, peer.listener.as_deref(), put_text);
    put_option(to, peer.certificate.as_deref(), |to, certificate| {
        put_option(to, certificate.common_name.as_deref(), put_text);
        write_list(to, &certificate.alternative_names);
    });
}

fn peer(from: &mut Reader<'_>) -> Result<Peer, Malformed> {
    Ok(Peer {
        address: option(from, address)?,
        transport: match from.u8()? {
            0 => Transport::Tcp,
            1 => Transport::Tls,
            2 => Transport::WebSocket,
            3 => Transport::SecureWebSocket,
            4 => Transport::Unix,
            _ => return Err(Malformed("unknown transport")),
        },
        username: option(from, text)?.map(Box::from),
        listener: option(from, text)?.map(Arc::from),
        certificate: option(from, certificate)?.map(Arc::new),
        upgrade: None,
    })
}

fn certificate(from: &mut Reader<'_>) -> Result<ClientCertificate, Malformed> {
    Ok(ClientCertificate {
        common_name: option(from, text)?.map(Box::from),
        alternative_names: list(from)?,
    })
}

fn write_address(to: &mut Vec<u8>, address: &SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    to.push(u8::from(address.is_ipv4()));
    to.extend_from_slice(&ip.octets());
    to.extend_from_slice(&address.port().to_be_bytes());
}

fn address(from: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
    let is_v4 = from.u8()? != 0;
    let octets = from.bytes(16)?.try_into().unwrap_or([0; 16]);
    let ip = IpAddr::from(octets);
    let ip = if is_v4 { ip.to_canonical() } else { ip };
    Ok(SocketAddr::new(ip, from.u16()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_remembered() {
        for address in ["127.0.0.1:5", "[2001:db8::1]:7", "[::ffff:1.2.3.4]:8"] {
            let client = ClientInfo {
                client_id: "ident".into(),
                username: Some("".into()),
                version: Version::V311,
                peer: Peer {
                    address: address.parse().ok(),
                    transport: Transport::SecureWebSocket,
                    username: Some("of the certificate".into()),
                    certificate: Some(Arc::new(ClientCertificate {
                        common_name: Some("name".into()),
                        alternative_names: vec!["one".into(), "other".into()],
                    })),
                    upgrade: None,
                    listener: Some("lan".into()),
                },
                connected_at: Millis::from_unix(9),
                keep_alive: 8,
                session_expiry: 7,
                proof: Proof::Certificate,
                rights: Some(Arc::new(Rights {
                    everything: false,
                    read: vec!["r/#".into()],
                    write: vec!["w/%c".into(), "x".into()],
                    never_read: vec![],
                    never_write: vec!["n".into()],
                })),
            };
            let mut bytes = Vec::new();
            write_client(&mut bytes, &client);
            let read = read_client(&bytes).expect("readable");
            assert_eq!(format!("{read:?}"), format!("{client:?}"));
            for end in 0..bytes.len() {
                assert!(read_client(&bytes[..end]).is_err(), "to {end}");
            }
        }
    }
}
