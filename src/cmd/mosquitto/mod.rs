//! `broker config import`: a `mosquitto.conf` in our terms.
//!
//! Invariants:
//! * Nothing is opened up by what can't be translated: a listener that Mosquitto protects by something that is not there
//!   here is left out, and stands in the new file as a comment.
//! * Each line that is not translated is listed, with what to do instead.
//! * No value of a secret is printed.

mod conf;
mod listeners;
mod model;
mod output;
mod settings;
mod take;
mod values;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use conf::Place;
use model::Model;

/// Something that the reader of the new file should know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    /// None if it is about the whole file.
    place: Option<Place>,
    text: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// The new file, and what could not be translated.
#[derive(Debug)]
struct Translation {
    toml: String,
    notes: Vec<Note>,
}

/// Translates the file to standard output or to a new file, and lists on standard error what can't be translated.
pub(crate) fn import(file: &Path, output: Option<&Path>) -> Result<(), String> {
    let translation = translate(file)?;
    match output {
        Some(path) => write_new(path, &translation.toml).map_err(|error| format!("{}: {error}", path.display()))?,
        None => io::stdout()
            .write_all(translation.toml.as_bytes())
            .map_err(|error| format!("can't write to standard output: {error}"))?,
    }
    for note in &translation.notes {
        eprintln!("{note}");
    }
    Ok(())
}

fn translate(file: &Path) -> Result<Translation, String> {
    let mut model = Model::new();
    for line in conf::read(file)? {
        model
            .take(&line)
            .map_err(|reason| format!("{}: {reason}", line.place))?;
    }
    Ok(output::translation(file, &model))
}

/// A file that is there already may be in use.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
