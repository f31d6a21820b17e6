//! Messages on standard output.

use std::io::{self, BufWriter, ErrorKind, Stdout, Write};

use super::Next;
use super::format::{Format, Message};
use crate::cmd::mqtt::Failure;

/// Prints messages. Whoever closes standard output wants no more: that is no error.
pub(super) struct Printer {
    output: BufWriter<Stdout>,
    format: Format,
    newline: bool,
    line: Vec<u8>,
}

impl Printer {
    pub(super) fn new(format: Format, newline: bool) -> Printer {
        Printer {
            output: BufWriter::new(io::stdout()),
            format,
            newline,
            line: Vec::new(),
        }
    }

    pub(super) fn print(&mut self, message: &Message<'_>) -> Result<Next, Failure> {
        self.line.clear();
        self.format.render(&mut self.line, message);
        if self.newline {
            self.line.push(b'\n');
        }
        next(self.output.write_all(&self.line))
    }

    pub(super) fn flush(&mut self) -> Result<Next, Failure> {
        next(self.output.flush().and_then(|()| self.output.get_mut().flush()))
    }
}

fn next(written: io::Result<()>) -> Result<Next, Failure> {
    match written {
        Ok(()) => Ok(Next::More),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Next::End),
        Err(error) => Err(Failure::new(format!("can't write to standard output: {error}"))),
    }
}
