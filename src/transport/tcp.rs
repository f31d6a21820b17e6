//! Plain TCP, whose sending half publishers may use as well.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::session::DirectWrite;

/// The side of the connection's task: reads, and writes.
#[derive(Debug)]
pub(crate) struct Tcp(OwnedReadHalf);

/// Bytes that the kernel may hold for a client and has not sent. Beyond, they wait in our queues, where they are counted; and a
/// client that reads slowly shows that it does: else the kernel tells of room only when a third of its buffer is free, which
/// may be megabytes, and the write time-out has passed. Less costs large messages more wake-ups.
const UNSENT: u32 = 384 * 1024;
/// The same where the layers above write in smaller pieces, which take more of the kernel's buffer than their size.
const UNSENT_IN_PIECES: u32 = 128 * 1024;

/// The side of publishers.
#[derive(Debug)]
struct Direct(OwnedWriteHalf);

/// Sets what every connection has: nothing waits in the kernel to be sent with more, and not much waits there to be sent at
/// all. With `keepalive`, a peer that has vanished without a word is found out although nothing is sent; half of that time
/// passes before the first probe. `in_pieces` says whether there is TLS or WebSocket above.
pub(crate) fn prepare(socket: &TcpStream, keepalive: Option<Duration>, in_pieces: bool) {
    // An error means that the connection has gone already.
    let _ = socket.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = SockRef::from(socket).set_tcp_notsent_lowat(if in_pieces { UNSENT_IN_PIECES } else { UNSENT });
    if let Some(time) = keepalive {
        let probes = TcpKeepalive::new()
            .with_time(time / 2)
            .with_interval((time / 8).max(Duration::from_secs(1)));
        let _ = SockRef::from(socket).set_tcp_keepalive(&probes.with_retries(4));
    }
}

/// The side of the connection's task, and that of publishers.
pub(crate) fn split(socket: TcpStream) -> (Tcp, Arc<dyn DirectWrite>) {
    let (read, write) = socket.into_split();
    (Tcp(read), Arc::new(Direct(write)))
}

impl DirectWrite for Direct {
    fn write(&self, bytes: &[u8]) -> usize {
        self.0.try_write(bytes).unwrap_or(0)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let socket: &TcpStream = self.0.as_ref();
        loop {
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket: &TcpStream = self.0.as_ref();
        Poll::Ready(SockRef::from(socket).shutdown(Shutdown::Write))
    }
}
