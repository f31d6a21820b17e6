//! How a node begins again: as a new process with the same number, which reads from its standard input what the one before has left.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{MemfdFlags, memfd_create};

use super::fail;
use crate::store::legacy::Legacies;

/// The name of the file in memory, by which it is known.
const NAME: &str = "mqtt-broker-legacies";
const INPUT: &str = "/proc/self/fd/0";

/// A node that the others have declared dead, or whose Redis has lost something, begins again as a new one. Returns only if that fails.
pub(super) fn start_again(error: &str, arguments: impl Iterator<Item = OsString>, legacies: &Legacies) -> ExitCode {
    eprintln!("broker: {error}: starting again");
    let failed = match std::env::current_exe() {
        Ok(program) => {
            let mut command = Command::new(program);
            command.args(arguments);
            match leave(legacies) {
                Ok(Some(file)) => drop(command.stdin(Stdio::from(file))),
                Ok(None) => {}
                Err(error) => eprintln!("broker: what Redis may have lost is forgotten: {error}"),
            }
            command.exec()
        }
        Err(failed) => failed,
    };
    fail(&format!("can't start again: {failed}"))
}

/// What is left, in memory that the next process has.
fn leave(legacies: &Legacies) -> io::Result<Option<File>> {
    if legacies.is_empty() {
        return Ok(None);
    }
    let mut file = File::from(memfd_create(NAME, MemfdFlags::CLOEXEC)?);
    file.write_all(&legacies.to_bytes())?;
    Ok(Some(file))
}

/// What the process before has left; nothing, if this is the first one.
pub(super) fn inherit(legacies: &Legacies) {
    let is_left = |name: &Path| name.to_string_lossy().contains(NAME);
    if !std::fs::read_link(INPUT).is_ok_and(|name| is_left(&name)) {
        return;
    }
    let read = read_input().and_then(|bytes| match bytes.is_empty() {
        true => Ok(()),
        false => legacies
            .add_bytes(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.0)),
    });
    if let Err(error) = read {
        tracing::error!(%error, "what the process before has left can't be read: what Redis may have lost is forgotten");
    }
}

/// Opened anew, it is read from its start. It takes no memory any more then.
fn read_input() -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).write(true).open(INPUT)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    file.set_len(0)?;
    Ok(bytes)
}
