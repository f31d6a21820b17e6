//! The byte stream of one connection: what is read and not yet a packet, what is to be written.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::buffers::INPUT_SIZE;
use crate::broker::Core;

/// See the module.
pub(super) struct Link<S> {
    io: S,
    /// The beginning of a packet whose rest has not arrived.
    partial: Vec<u8>,
    core: Arc<Core>,
    /// Bytes of the output that have been written.
    written: usize,
    /// Bytes of `partial` as they are counted among those of all connections.
    counted: u32,
    is_client: bool,
    /// What has been written may still be in a buffer of the transport.
    flushing: bool,
}

/// A packet that grows beyond this gets a buffer of its own until it is complete.
const SMALL_PARTIAL: usize = INPUT_SIZE / 2;
/// Why nothing more of a packet is read.
pub(super) const NO_ROOM: &str = "the broker has no memory for packets that arrive in parts";

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    pub(super) fn new(io: S, core: &Arc<Core>) -> Link<S> {
        Link {
            io,
            partial: Vec::new(),
            core: Arc::clone(core),
            written: 0,
            counted: 0,
            is_client: false,
            flushing: false,
        }
    }

    /// Whoever is at the other end has been accepted, and gets more room.
    pub(super) fn accept(&mut self) {
        self.is_client = true;
    }

    /// Reads into `input`, behind what was kept of the last batch; the number of bytes in `input`, or 0 at the end of
    /// the stream. [`io::ErrorKind::QuotaExceeded`] if there is no memory for more of the packet.
    ///
    /// One read only: a short one has cleared the socket's readiness, so the next costs no system call.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, input: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        if !self.core.memory.partials.may_grow(self.counted, self.is_client) {
            let error = io::Error::new(io::ErrorKind::QuotaExceeded, NO_ROOM);
            return Poll::Ready(Err(error));
        }
        if self.partial.len() >= SMALL_PARTIAL {
            return self.poll_read_large(cx, input);
        }
        let kept = self.partial.len();
        let mut buffer = ReadBuf::new(&mut input[kept..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(0));
        }
        input[..kept].copy_from_slice(&self.partial);
        self.partial = Vec::new();
        self.count(0);
        Poll::Ready(Ok(kept + read))
    }

    /// A large packet is read into its own buffer, which grows only as its bytes arrive.
    fn poll_read_large(&mut self, cx: &mut Context<'_>, input: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        let kept = self.partial.len();
        if self.partial.capacity() - kept < SMALL_PARTIAL {
            self.partial.reserve(kept.max(INPUT_SIZE));
        }
        // No more than one read can fill: the bytes are zeroed first.
        let room = (kept + INPUT_SIZE).min(self.partial.capacity());
        self.partial.resize(room, 0);
        let mut buffer = ReadBuf::new(&mut self.partial[kept..]);
        let result = Pin::new(&mut self.io).poll_read(cx, &mut buffer);
        let read = buffer.filled().len();
        self.partial.truncate(kept + read);
        ready!(result)?;
        if read > 0 {
            // Lent to the batch, which gives back what is still incomplete.
            std::mem::swap(&mut self.partial, input);
            self.partial = Vec::new();
            return Poll::Ready(Ok(kept + read));
        }
        Poll::Ready(Ok(0))
    }

    /// Keeps the bytes from `start` to `end` of `input`, which are no complete packet.
    pub(super) fn keep(&mut self, input: &mut Vec<u8>, start: usize, end: usize) {
        if start == end {
            self.count(0);
            return;
        }
        if start == 0 && input.len() != INPUT_SIZE {
            // The large packet goes on in its own buffer.
            input.truncate(end);
            self.partial = std::mem::take(input);
        } else {
            self.partial = input[start..end].to_vec();
        }
        self.count(self.partial.capacity());
    }

    /// Moves what was kept into `input`; how many bytes that is.
    pub(super) fn take_kept(&mut self, input: &mut Vec<u8>) -> usize {
        let kept = std::mem::take(&mut self.partial);
        self.count(0);
        if kept.len() > input.len() {
            *input = kept;
            return input.len();
        }
        input[..kept.len()].copy_from_slice(&kept);
        kept.len()
    }

    /// Writes as much of `output` as the transport takes. Ready when all of it is written, and `output` is empty then;
    /// the flag says whether anything was written.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        output: &mut Vec<u8>,
        progress: &mut bool,
    ) -> Poll<io::Result<()>> {
        while self.written < output.len() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &output[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *progress = true;
            self.written += written;
            self.flushing = true;
        }
        output.clear();
        self.written = 0;
        if self.flushing {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Whether there is room to keep more of what a client sends that is held back.
    pub(super) fn may_keep_more(&self) -> bool {
        self.partial.len() < SMALL_PARTIAL
    }

    /// Bytes of `output` that have not been written, and a flush that is due.
    pub(super) fn is_writing(&self, output: &[u8]) -> bool {
        self.written < output.len() || self.flushing
    }

    /// Frees the part of the output that is written, when that is most of it; how many bytes that were.
    pub(super) fn compact(&mut self, output: &mut Vec<u8>) -> usize {
        if self.written <= output.len() / 2 {
            return 0;
        }
        output.drain(..self.written);
        std::mem::take(&mut self.written)
    }

    /// Writes all of `output`, for at most `limit`; whether that succeeded. What is left stays in `output`.
    pub(super) async fn finish(&mut self, output: &mut Vec<u8>, limit: Duration) -> bool {
        let all = poll_fn(|cx| self.poll_write(cx, output, &mut false));
        matches!(tokio::time::timeout(limit, all).await, Ok(Ok(())))
    }

    /// Closes the connection so that what was written last arrives: a socket that is closed with unread input is
    /// reset, and the reset may overtake what was sent.
    pub(super) async fn linger(mut self) {
        self.partial = Vec::new();
        self.count(0);
        let mut discarded = vec![0; 4096];
        let drain = async {
            if self.io.shutdown().await.is_err() {
                return;
            }
            for _ in 0..LINGER_READS {
                match self.io.read(&mut discarded).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        let _ = tokio::time::timeout(LINGER_TIME, drain).await;
    }
}

impl<S> Link<S> {
    fn count(&mut self, bytes: usize) {
        self.core.memory.partials.count(&mut self.counted, bytes);
    }
}

impl<S> Drop for Link<S> {
    fn drop(&mut self) {
        self.count(0);
    }
}

const LINGER_TIME: Duration = Duration::from_millis(500);
const LINGER_READS: usize = 1024;
