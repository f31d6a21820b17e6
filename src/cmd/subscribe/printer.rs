//! Messages on standard output.

use std::io::{self, ErrorKind, Write};

use super::Next;
use super::format::{Format, Message};
use crate::cmd::mqtt::Failure;

/// Prints messages. Whoever closes standard output wants no more: that is no error.
pub(super) struct Printer {
    format: Format,
    newline: bool,
    /// What is to be written.
    text: Vec<u8>,
}

impl Printer {
    pub(super) fn new(format: Format, newline: bool) -> Printer {
        Printer {
            format,
            newline,
            text: Vec::new(),
        }
    }

    /// What is printed is written by [`Printer::flush`].
    pub(super) fn print(&mut self, message: &Message<'_>) {
        self.format.render(&mut self.text, message);
        if self.newline {
            self.text.push(b'\n');
        }
    }

    /// Writes on another thread: a reader that is slow must not keep this one from hearing signals.
    pub(super) async fn flush(&mut self) -> Result<Next, Failure> {
        if self.text.is_empty() {
            return Ok(Next::More);
        }
        let text = std::mem::take(&mut self.text);
        let written = tokio::task::spawn_blocking(move || {
            let mut output = io::stdout().lock();
            output.write_all(&text)?;
            output.flush()
        });
        match written.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => Ok(Next::More),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Next::End),
            Err(error) => Err(Failure::new(format!("can't write to standard output: {error}"))),
        }
    }
}
