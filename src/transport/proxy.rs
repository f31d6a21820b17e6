//! The PROXY protocol, versions 1 and 2: a proxy that forwards bytes says first who the client is.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::Refused;

/// Proxies that are believed: single addresses and networks, such as `10.0.0.0/8,::1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl TrustedProxies {
    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address.to_canonical()))
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<TrustedProxies, String> {
        let networks = text.split(',').map(str::trim).map(str::parse);
        networks.collect::<Result<_, _>>().map(TrustedProxies)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let error = || format!("{text:?} is no address and no network such as 10.0.0.0/8");
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most).ok_or_else(error)?,
            None => most,
        };
        Ok(Network { address, bits })
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = u32::from(network) ^ u32::from(address);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = u128::from(network) ^ u128::from(address);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

/// What a proxy says of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Proxied {
    /// None if the connection is the proxy's own, such as a health check, or the proxy does not know.
    pub(super) address: Option<SocketAddr>,
    /// The common name of the certificate that the client has proven to the proxy to have.
    pub(super) common_name: Option<Box<str>>,
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a header of version 1.
const LARGEST_LINE: usize = 107;
/// Bytes of a header of version 2 that are read: far more than any proxy sends.
const LARGEST_HEADER: usize = 4 * 1024;

/// Reads the header, and no byte behind it.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Proxied, Refused> {
    let mut start = [0; SIGNATURE.len()];
    io.read_exact(&mut start).await.map_err(|_| NO_HEADER)?;
    if start == SIGNATURE {
        return read_version_2(io).await;
    }
    if start.starts_with(b"PROXY ") {
        return read_version_1(io, &start).await;
    }
    Err(NO_HEADER)
}

const NO_HEADER: Refused = Refused(std::borrow::Cow::Borrowed("no PROXY header, where one is expected"));

fn bad_header(detail: &'static str) -> Refused {
    Refused(format!("PROXY header: {detail}").into())
}

async fn read_version_1(io: &mut (impl AsyncRead + Unpin), start: &[u8]) -> Result<Proxied, Refused> {
    let mut line = start.to_vec();
    // Byte by byte: what follows the line is the client's.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LARGEST_LINE {
            return Err(bad_header("the line is too long"));
        }
        line.push(io.read_u8().await.map_err(|_| bad_header("the line has no end"))?);
    }
    let line = std::str::from_utf8(&line[..line.len() - 2]).map_err(|_| bad_header("not text"))?;
    parse_line(line)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 56324 1883`
fn parse_line(line: &str) -> Result<Proxied, Refused> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (source, port, is_family): (_, _, fn(&IpAddr) -> bool) = match fields[..] {
        [_, "TCP4", source, _, port, _] => (source, port, IpAddr::is_ipv4),
        [_, "TCP6", source, _, port, _] => (source, port, IpAddr::is_ipv6),
        [_, "UNKNOWN", ..] => return Ok(Proxied::default()),
        _ => return Err(bad_header("unknown fields")),
    };
    let ip = source
        .parse()
        .ok()
        .filter(is_family)
        .ok_or(bad_header("no such address"))?;
    let port = port.parse().map_err(|_| bad_header("no such port"))?;
    Ok(Proxied {
        address: Some(SocketAddr::new(ip, port)),
        common_name: None,
    })
}

async fn read_version_2(io: &mut (impl AsyncRead + Unpin)) -> Result<Proxied, Refused> {
    let truncated = |_| bad_header("the header has no end");
    let mut fixed = [0; 4];
    io.read_exact(&mut fixed).await.map_err(truncated)?;
    let [version_and_command, family, high, low] = fixed;
    let size = usize::from(u16::from_be_bytes([high, low]));
    if size > LARGEST_HEADER {
        return Err(bad_header("too large"));
    }
    let mut rest = vec![0; size];
    io.read_exact(&mut rest).await.map_err(truncated)?;
    match version_and_command {
        // LOCAL: the proxy itself.
        0x20 => Ok(Proxied::default()),
        0x21 => parse_version_2(family, &rest),
        _ => Err(bad_header("unknown version or command")),
    }
}

fn parse_version_2(family: u8, rest: &[u8]) -> Result<Proxied, Refused> {
    let short = || bad_header("too short for its addresses");
    let (address, tlvs) = match family >> 4 {
        1 => {
            let (addresses, tlvs) = rest.split_first_chunk::<12>().ok_or_else(short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *addresses;
            let address = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
            (Some(address), tlvs)
        }
        2 => {
            let (addresses, tlvs) = rest.split_first_chunk::<36>().ok_or_else(short)?;
            let mut ip = [0; 16];
            ip.copy_from_slice(&addresses[..16]);
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            (Some(SocketAddr::from((ip, port))), tlvs)
        }
        // Unix sockets.
        3 => (None, rest.get(216..).ok_or_else(short)?),
        0 => (None, rest),
        _ => return Err(bad_header("unknown address family")),
    };
    Ok(Proxied {
        address,
        common_name: common_name(tlvs)?,
    })
}

/// `PP2_TYPE_SSL`, with what the proxy knows of the client's TLS.
const TYPE_SSL: u8 = 0x20;
/// `PP2_SUBTYPE_SSL_CN`
const SUBTYPE_CN: u8 = 0x22;
/// `PP2_CLIENT_CERT_CONN` and `PP2_CLIENT_CERT_SESS`: the client has shown a certificate.
const HAS_CERTIFICATE: u8 = 0x02 | 0x04;

/// The common name of a certificate that the proxy has verified.
fn common_name(tlvs: &[u8]) -> Result<Option<Box<str>>, Refused> {
    let Some(ssl) = find(tlvs, TYPE_SSL)? else {
        return Ok(None);
    };
    let ([client, verify @ ..], tlvs) = ssl.split_first_chunk::<5>().ok_or(bad_header("truncated"))?;
    // Zero: the certificate has been verified.
    if client & HAS_CERTIFICATE == 0 || *verify != [0; 4] {
        return Ok(None);
    }
    let name = find(tlvs, SUBTYPE_CN)?.map(std::str::from_utf8).transpose();
    Ok(name
        .map_err(|_| bad_header("a name that is not UTF-8"))?
        .map(Into::into))
}

/// The value with this type. All of the list must be well formed.
fn find(mut tlvs: &[u8], wanted: u8) -> Result<Option<&[u8]>, Refused> {
    let mut found = None;
    while let Some(([kind, high, low], rest)) = tlvs.split_first_chunk::<3>() {
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(size).ok_or(bad_header("truncated"))?;
        if *kind == wanted {
            found = Some(value);
        }
        tlvs = rest;
    }
    if tlvs.is_empty() {
        Ok(found)
    } else {
        Err(bad_header("truncated"))
    }
}

#[cfg(test)]
mod tests;
