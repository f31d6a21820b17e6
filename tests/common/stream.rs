//! A blocking stream of bytes, with TLS and WebSocket on it or not.

use super::DEADLINE;
use super::websocket::Framing;
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

/// A connection. What is read and written is within all layers.
pub struct Stream {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
    websocket: Option<Framing>,
    /// What was within has ended by a word of its own, not only by the end of the socket.
    ended_in_order: bool,
}

impl Stream {
    /// A TCP connection.
    pub fn tcp(addr: SocketAddr) -> Stream {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("the broker accepts connections");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Stream::on(stream.into())
    }

    /// A TCP connection from this address of the loopback interface.
    pub fn tcp_from(from: [u8; 4], addr: SocketAddr) -> Stream {
        let socket = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address");
        let connected = socket.connect_timeout(&addr.into(), DEADLINE);
        connected.expect("the broker accepts connections");
        socket.set_tcp_nodelay(true).expect("TCP_NODELAY");
        Stream::on(socket)
    }

    /// A connection to a Unix domain socket.
    pub fn unix(path: &Path) -> Stream {
        Stream::on(
            UnixStream::connect(path)
                .expect("the broker accepts connections")
                .into(),
        )
    }

    fn on(socket: Socket) -> Stream {
        socket.set_write_timeout(Some(DEADLINE)).expect("a time-out");
        Stream {
            socket,
            tls: None,
            websocket: None,
            ended_in_order: false,
        }
    }

    /// Shakes hands.
    pub fn tls(mut self, config: &Arc<ClientConfig>) -> io::Result<Stream> {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        self.socket.set_read_timeout(Some(DEADLINE))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut &self.socket)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// Asks for a WebSocket connection on this path.
    pub fn websocket(mut self, path: &str) -> io::Result<Stream> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        self.write_all(request.as_bytes())?;
        let response = self.read_head()?;
        let expected = [
            ("sec-websocket-protocol", "mqtt"),
            // The answer to the key, as in section 1.3 of RFC 6455.
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        let has = |(name, value)| super::header(&response, name) == Some(value);
        if !response.starts_with("HTTP/1.1 101 ") || !expected.into_iter().all(has) {
            return Err(io::Error::other(response));
        }
        self.websocket = Some(Framing::default());
        Ok(self)
    }

    /// Reads the head of an HTTP response, and nothing behind it.
    pub fn read_head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if self.read(&mut byte, DEADLINE)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
        }
        String::from_utf8(head).map_err(io::Error::other)
    }

    /// The socket, for tests of what happens below all layers.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The TLS connection of a stream with TLS.
    pub fn secured(&self) -> &ClientConnection {
        self.tls.as_ref().expect("a stream with TLS")
    }

    /// Whether TLS has ended by a word of its own, when the end has been read.
    pub fn has_ended_in_order(&self) -> bool {
        self.ended_in_order
    }

    /// The frames of a stream with WebSocket.
    pub fn framing(&mut self) -> &mut Framing {
        self.websocket.as_mut().expect("a stream with WebSocket")
    }

    /// Reads what is there, or waits for it; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed()).max(Duration::from_millis(1));
            let Some(websocket) = &mut self.websocket else {
                return self.read_below(buffer, left);
            };
            let ready = websocket.read(buffer);
            if ready > 0 || websocket.is_closed() {
                return Ok(ready);
            }
            let mut bytes = [0; 16 * 1024];
            let count = self.read_below(&mut bytes, left)?;
            if count == 0 {
                return Ok(0);
            }
            self.framing().receive(&bytes[..count]);
        }
    }

    fn read_below(&mut self, buffer: &mut [u8], limit: Duration) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(limit))?;
        let Some(tls) = &mut self.tls else {
            return self.socket.read(buffer);
        };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end of the connection without the end of TLS.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => {
                    self.ended_in_order |= matches!(result, Ok(0));
                    return result;
                }
            }
            tls.read_tls(&mut self.socket)?;
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Sends all of it; an error tells that the broker has closed or takes nothing.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.websocket {
            Some(websocket) => {
                let frames = websocket.encode(bytes);
                self.write_below(&frames)
            }
            None => self.write_below(bytes),
        }
    }

    /// Sends all of it below WebSocket, within TLS if there is TLS.
    pub fn write_below(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            return self.socket.write_all(bytes);
        };
        for part in bytes.chunks(16 * 1024) {
            tls.writer().write_all(part)?;
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }

    /// Ends the sending half of the socket, without a word of the layers.
    pub fn end_writing(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}
