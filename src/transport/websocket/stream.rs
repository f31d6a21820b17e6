//! The bytes within WebSocket frames, as a stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{self, Decoder, FrameError, Header};

/// The stream within a WebSocket connection. It owns no buffer: frames are taken apart in the reader's, and the writer's
/// bytes are sent behind a header.
#[derive(Debug)]
pub(crate) struct WebSocketStream<S> {
    io: S,
    decoder: Decoder,
    /// Of the frame that is being sent.
    header: Header,
    /// Bytes of its payload that the writer will give.
    announced: usize,
    /// Frames of our own that wait for the end of the frame that is being sent: a Pong, a Close.
    control: Vec<u8>,
    /// A Close frame is sent or about to be: nothing may follow.
    closing: bool,
    /// The peer has broken the rules: what else it sends is not looked at.
    failed: bool,
    /// This is the client's end, whose frames have masks.
    masked: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketStream<S> {
    pub(super) fn new(io: S) -> WebSocketStream<S> {
        WebSocketStream {
            io,
            decoder: Decoder::default(),
            header: Header::default(),
            announced: 0,
            control: Vec::new(),
            closing: false,
            failed: false,
            masked: false,
        }
    }

    /// The client's end.
    #[cfg(feature = "cli")]
    pub(crate) fn of_client(io: S) -> WebSocketStream<S> {
        WebSocketStream {
            decoder: Decoder::of_server(),
            masked: true,
            ..WebSocketStream::new(io)
        }
    }

    /// Sends what frames of our own there are, if no other frame has begun.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.announced > 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.control.is_empty() {
                let size = ready!(Pin::new(&mut self.io).poll_write(cx, &self.control))?;
                if size == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.control.drain(..size);
            }
            // One answer at a time: pings that come faster than their answers go get one together.
            self.control = match self.decoder.take_ping() {
                Some(ping) if !self.closing => self.own(frame::pong(&ping)),
                _ => Vec::new(),
            };
            if self.control.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn close(&mut self, code: u16) {
        if !std::mem::replace(&mut self.closing, true) {
            let close = self.own(frame::close(code));
            self.control.extend_from_slice(&close);
        }
    }

    fn header_for(&self, size: usize) -> Header {
        #[cfg(feature = "cli")]
        if self.masked {
            return Header::masked(size);
        }
        Header::binary(size)
    }

    /// A control frame as this end sends it.
    fn own(&self, frame: Vec<u8>) -> Vec<u8> {
        if self.masked { frame::masked(frame) } else { frame }
    }

    /// Takes apart what has been read; how many bytes of payload there are.
    fn take_apart(&mut self, bytes: &mut [u8]) -> Result<usize, FrameError> {
        if self.failed {
            return Ok(0);
        }
        let result = self.decoder.decode(bytes);
        match &result {
            Err(error) => {
                self.failed = true;
                self.close(error.code);
            }
            Ok(_) if self.decoder.is_closed() => self.close(frame::NORMAL),
            Ok(_) => {}
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            // Whether it can be sent or not, reading goes on; the socket wakes the task when it can.
            if let Poll::Ready(Err(error)) = this.poll_control(cx) {
                return Poll::Ready(Err(error));
            }
            if this.decoder.is_closed() {
                return Poll::Ready(Ok(()));
            }
            let room = buffer.initialize_unfilled();
            let mut read = ReadBuf::new(room);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            let size = read.filled().len();
            if size == 0 {
                return Poll::Ready(Ok(()));
            }
            let payload = this.take_apart(&mut room[..size]).map_err(io::Error::other)?;
            if payload > 0 {
                buffer.advance(payload);
                // A Pong need not wait for the next read.
                let _ = this.poll_control(cx)?;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketStream<S> {
    /// All that is written together goes into one frame. Once some of it has been sent, the writer must give the same
    /// bytes again until all of it is, as every writer does that does not lose bytes.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_control(cx))?;
        if this.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if this.announced == 0 {
            this.announced = bytes.len();
            this.header = this.header_for(bytes.len());
        }
        let payload = &bytes[..bytes.len().min(this.announced)];
        loop {
            let io = Pin::new(&mut this.io);
            let sent = if this.header.unsent().is_empty() {
                ready!(io.poll_write(cx, payload))?
            } else {
                let parts = [IoSlice::new(this.header.unsent()), IoSlice::new(payload)];
                ready!(io.poll_write_vectored(cx, &parts))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let sent = this.header.sent(sent);
            if sent > 0 {
                this.announced -= sent;
                return Poll::Ready(Ok(sent));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_control(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.close(frame::NORMAL);
        ready!(this.poll_control(cx))?;
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
