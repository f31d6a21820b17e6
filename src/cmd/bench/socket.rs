//! The sending end of each transport, for one thread: nothing waits, and nothing is done twice.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Source;
use mio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::transport::websocket_frame::{Decoder, Header};

/// What lies between the socket and MQTT.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The path of the WebSocket, and the host to name.
    pub(super) websocket: Option<(String, String)>,
}

/// A socket, and the layers above it.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: Stream,
    websocket: Option<Box<WebSocket>>,
    /// The last read has filled its buffer, below the WebSocket: there may be more, of which the poll says nothing.
    has_more: bool,
}

#[derive(Debug)]
struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

#[derive(Debug)]
struct WebSocket {
    state: State,
    decoder: Decoder,
    header: Header,
    /// Bytes of the frame that is being sent.
    announced: usize,
}

#[derive(Debug)]
enum State {
    /// The request, as far as it has not been sent.
    Asking {
        request: Vec<u8>,
        accept: String,
    },
    /// What has come of the answer.
    Waiting {
        answer: Vec<u8>,
        accept: String,
    },
    Open,
}

impl Socket {
    pub(super) fn connect(address: SocketAddr, layers: &Layers) -> io::Result<Socket> {
        let tcp = TcpStream::connect(address)?;
        let _ = tcp.set_nodelay(true);
        let tls = match &layers.tls {
            Some((config, name)) => {
                let tls = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                Some(Box::new(tls))
            }
            None => None,
        };
        let websocket = layers
            .websocket
            .as_ref()
            .map(|(path, host)| Box::new(WebSocket::new(path, host)));
        Ok(Socket {
            tcp: Stream { tcp, tls },
            websocket,
            has_more: false,
        })
    }

    pub(super) fn source(&mut self) -> &mut impl Source {
        &mut self.tcp.tcp
    }

    /// Reads what the broker sends above all layers; nothing at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.has_more = false;
            let size = self.tcp.read(buffer)?;
            self.has_more = size == buffer.len();
            let payload = match &mut self.websocket {
                Some(websocket) => websocket.read(buffer, size)?,
                None => size,
            };
            if payload > 0 || size == 0 {
                return Ok(payload);
            }
        }
    }

    /// Whether to read again although the poll does not say so.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Writes as much as is taken; `WouldBlock` if that is nothing, or while the layers are not there yet.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(websocket) = &mut self.websocket else {
            return self.tcp.write(&[bytes]);
        };
        websocket.write(&mut self.tcp, bytes)
    }

    /// Writes what was taken and has not been sent.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }

    /// Whether something was taken that has not been sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.tcp.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether the layers below MQTT are there. Only reading brings them about.
    pub(super) fn is_open(&self) -> bool {
        let has_tls = self.tcp.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        let is_upgraded = self
            .websocket
            .as_ref()
            .is_none_or(|websocket| matches!(websocket.state, State::Open));
        has_tls && is_upgraded
    }
}

impl Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return self.tcp.read(buffer);
        };
        let mut read = 0;
        // To the end of what there is: the poll does not say twice that there is more.
        while read < buffer.len() {
            match tls.reader().read(&mut buffer[read..]) {
                Ok(0) => break,
                Ok(size) => {
                    read += size;
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) if read > 0 => break,
                Err(error) => return Err(error),
            }
            match tls.read_tls(&mut self.tcp) {
                Ok(0) => break,
                Ok(_) => {
                    tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.flush()?;
                    return if read > 0 {
                        Ok(read)
                    } else {
                        Err(ErrorKind::WouldBlock.into())
                    };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write(&mut self, parts: &[&[u8]]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let parts: [IoSlice<'_>; 2] =
                std::array::from_fn(|index| IoSlice::new(parts.get(index).unwrap_or(&&[][..])));
            return self.tcp.write_vectored(&parts);
        };
        if !tls.is_handshaking() && !tls.wants_write() {
            let mut written = 0;
            for part in parts {
                let size = tls.writer().write(part)?;
                written += size;
                if size < part.len() {
                    break;
                }
            }
            self.flush()?;
            if written > 0 {
                return Ok(written);
            }
        }
        self.flush()?;
        Err(ErrorKind::WouldBlock.into())
    }

    /// What can't be sent now stays.
    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl WebSocket {
    fn new(path: &str, host: &str) -> WebSocket {
        let key = generate_key();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        WebSocket {
            state: State::Asking {
                request: request.into_bytes(),
                accept: derive_accept_key(key.as_bytes()),
            },
            decoder: Decoder::of_server(),
            header: Header::default(),
            announced: 0,
        }
    }

    /// Takes apart what was read; how many bytes of payload are at the front of `buffer`.
    fn read(&mut self, buffer: &mut [u8], size: usize) -> io::Result<usize> {
        let (from, size) = match &mut self.state {
            State::Waiting { answer, accept } => {
                let before = answer.len();
                answer.extend_from_slice(&buffer[..size]);
                let Some(end) = answer.windows(4).position(|part| part == b"\r\n\r\n") else {
                    return Ok(0);
                };
                check(&String::from_utf8_lossy(&answer[..end]), accept)?;
                let from = end + 4 - before;
                self.state = State::Open;
                (from, size - from)
            }
            _ => (0, size),
        };
        buffer.copy_within(from..from + size, 0);
        self.decoder.decode(&mut buffer[..size]).map_err(io::Error::other)
    }

    fn write(&mut self, stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
        if let State::Asking { request, accept } = &mut self.state {
            let size = stream.write(&[request])?;
            request.drain(..size);
            if request.is_empty() {
                self.state = State::Waiting {
                    answer: Vec::new(),
                    accept: std::mem::take(accept),
                };
            }
        }
        if !matches!(self.state, State::Open) {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.announced == 0 {
            self.announced = bytes.len();
            self.header = Header::masked(bytes.len());
        }
        let payload = &bytes[..bytes.len().min(self.announced)];
        let sent = stream.write(&[self.header.unsent(), payload])?;
        let sent = self.header.sent(sent);
        self.announced -= sent;
        if sent == 0 {
            Err(ErrorKind::WouldBlock.into())
        } else {
            Ok(sent)
        }
    }
}

fn check(answer: &str, accept: &str) -> io::Result<()> {
    let first = answer.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("101") {
        return Err(io::Error::other(format!("the broker answers {first:?}")));
    }
    if !answer.contains(accept) {
        return Err(io::Error::other("the broker's answer is not for this request"));
    }
    Ok(())
}
