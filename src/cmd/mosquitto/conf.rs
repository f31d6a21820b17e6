//! The lines of a `mosquitto.conf` and of the files that it includes, in the order in which Mosquitto reads them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A line that says something.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) name: String,
    /// Without blanks around it; empty if there is none.
    pub(super) value: String,
}

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: Rc<Path>,
    pub(super) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: line {}", self.path.display(), self.line)
    }
}

/// Bytes of the largest file that is read.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;
/// Files that a directory may have.
const MOST_FILES: usize = 1_000;

/// The lines of the file.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for line in lines_of(path)? {
        if line.name != "include_dir" {
            lines.push(line);
            continue;
        }
        let error = |reason: String| format!("{}: {reason}", line.place);
        if line.value.is_empty() {
            return Err(error("include_dir has no value".to_owned()));
        }
        let mut rest = included(Path::new(&line.value)).map_err(error)?;
        lines.append(&mut rest);
    }
    Ok(lines)
}

fn included(directory: &Path) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    for path in files_of(directory)? {
        for line in lines_of(&path)? {
            if line.name == "include_dir" {
                return Err(format!("{}: include_dir is for the main file alone", line.place));
            }
            lines.push(line);
        }
    }
    Ok(lines)
}

/// The `.conf` files of the directory, in Mosquitto's order: without regard to case, a capital letter before the same
/// small one.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let error = |reason: std::io::Error| format!("{}: {reason}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(error)? {
        let path = entry.map_err(error)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.len() > ".conf".len() && name.ends_with(".conf") {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            return Err(format!("{}: more than {MOST_FILES} files", directory.display()));
        }
    }
    files.sort_by_cached_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let letters = name.bytes().map(|letter| (letter.to_ascii_lowercase(), letter));
        letters.collect::<Vec<_>>()
    });
    Ok(files)
}

fn lines_of(path: &Path) -> Result<Vec<Line>, String> {
    let text = text_of(path)?;
    let path: Rc<Path> = Rc::from(path);
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        lines.push(Line {
            place: Place {
                path: Rc::clone(&path),
                line: number + 1,
            },
            name: name.to_owned(),
            value: value.trim().to_owned(),
        });
    }
    Ok(lines)
}

fn text_of(path: &Path) -> Result<String, String> {
    let error = |reason: &str| format!("{}: {reason}", path.display());
    let metadata = std::fs::metadata(path).map_err(|fault| error(&fault.to_string()))?;
    if !metadata.is_file() {
        return Err(error("it is no file"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(error(&format!("larger than {LARGEST_FILE} bytes")));
    }
    let bytes = std::fs::read(path).map_err(|fault| error(&fault.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|fault| {
        let before = &fault.as_bytes()[..fault.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        error(&format!("line {line}: it is not UTF-8"))
    })?;
    match text.split('\n').position(|line| line.contains('\0')) {
        Some(number) => Err(error(&format!("line {}: it has a NUL character", number + 1))),
        None => Ok(text),
    }
}
