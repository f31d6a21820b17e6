//! `broker passwd`: the file of users and passwords.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::aedes;
use crate::access::passwords::PasswordFile;
use crate::access::{hash_password, hash_password_scram};

/// Keeps the file of users and passwords. Passwords are hashed with argon2id, or for SCRAM.
#[derive(Clone, Debug, Args)]
pub(crate) struct Passwd {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Adds a user, or changes the password; the file is made if it is not there
    Add {
        #[command(flatten)]
        password: PasswordOf,
        /// Write a verifier for SCRAM-SHA-256 (MQTT 5.0) in place of a hash; the password itself is accepted with it, too
        #[arg(long)]
        scram: bool,
    },
    /// Removes a user
    Remove(User),
    /// Tells whether a password is right, by the exit code: 0 or 1
    Check(PasswordOf),
    /// Prints the names of all users
    List {
        /// The file
        file: PathBuf,
    },
    /// Adds the users of a credentials.json of aedes-cli, with their passwords
    Import {
        /// The file of aedes-cli
        credentials: PathBuf,
        /// The file
        file: PathBuf,
        /// New file for what the users may publish and subscribe to, in TOML
        #[arg(long, value_name = "FILE")]
        acl: Option<PathBuf>,
    },
}

#[derive(Clone, Debug, Args)]
struct User {
    /// The file
    file: PathBuf,
    /// Name of the user
    user: String,
}

#[derive(Clone, Debug, Args)]
struct PasswordOf {
    #[command(flatten)]
    user: User,
    /// Read the password from standard input, to its first line break
    #[arg(long)]
    stdin: bool,
}

/// Does what the command says.
pub(crate) fn run(passwd: &Passwd) -> Result<(), String> {
    match &passwd.action {
        Action::Add {
            password: PasswordOf { user, stdin },
            scram,
        } => {
            check_name(&user.user)?;
            let password = read_password(*stdin, true)?;
            let hash = match scram {
                true => hash_password_scram(password.as_bytes())?,
                false => hash_password(password.as_bytes())?,
            };
            change(&user.file, &user.user, Some(&hash))
        }
        Action::Remove(user) => {
            if !read_file(&user.file)?.1.contains(&user.user) {
                return Err(format!("{}: there is no user {:?}", user.file.display(), user.user));
            }
            change(&user.file, &user.user, None)
        }
        Action::Check(PasswordOf { user, stdin }) => {
            let (_, users) = read_file(&user.file)?;
            let password = read_password(*stdin, false)?;
            match users.verify(&user.user, password.as_bytes()) {
                true => Ok(()),
                false => Err("wrong user name or password".to_owned()),
            }
        }
        Action::List { file } => {
            let (text, _) = read_file(file)?;
            for name in text.lines().filter_map(name_of) {
                writeln!(io::stdout(), "{name}").map_err(|error| error.to_string())?;
            }
            Ok(())
        }
        Action::Import { credentials, file, acl } => aedes::import(credentials, file, acl.as_deref()),
    }
}

/// The text of the file, if there is one, with these users and their hashes besides.
pub(super) fn with_users<'a>(path: &Path, users: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String, String> {
    let (mut text, known) = match path.exists() {
        true => read_file(path)?,
        false => Default::default(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (user, hash) in users {
        if known.contains(user) {
            return Err(format!(
                "{}: there is a user {user:?} already: remove it, or name another file",
                path.display()
            ));
        }
        text += &format!("{user}:{hash}\n");
    }
    Ok(text)
}

/// Writes a file that is not there yet, for its owner alone.
pub(super) fn write_once(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// What can't stand in a line of the file.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.starts_with('#') || name.contains([':', '\n', '\r']) {
        return Err("a user name is not empty, has no colon and no line break, and does not begin with #".to_owned());
    }
    Ok(())
}

fn name_of(line: &str) -> Option<&str> {
    if line.starts_with('#') {
        return None;
    }
    line.split_once(':').map(|(name, _)| name)
}

/// The text, and what it means.
fn read_file(path: &Path) -> Result<(String, PasswordFile), String> {
    let error = |reason: String| format!("{}: {reason}", path.display());
    let text = fs::read_to_string(path).map_err(|fault| error(fault.to_string()))?;
    let users = PasswordFile::parse(&text).map_err(error)?;
    Ok((text, users))
}

/// Writes the file anew, with this line for the user or none. All other lines stay as they are. A reader finds the old
/// file or the new one.
fn change(path: &Path, user: &str, hash: Option<&str>) -> Result<(), String> {
    let text = match hash {
        Some(_) if !path.exists() => String::new(),
        _ => read_file(path)?.0,
    };
    let line = hash.map(|hash| format!("{user}:{hash}\n"));
    let (mut changed, mut written) = (String::new(), false);
    for old in text.lines() {
        match &line {
            _ if name_of(old) != Some(user) => changed.extend([old, "\n"]),
            Some(line) => {
                changed += line;
                written = true;
            }
            None => {}
        }
    }
    if let Some(line) = line.filter(|_| !written) {
        changed += &line;
    }
    replace(path, changed.as_bytes()).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // Of a link, what it leads to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let result = write_new(path, &new, content).and_then(|()| fs::rename(&new, path));
    if result.is_err() {
        let _ = fs::remove_file(&new);
    }
    result
}

/// With the rights of the file that it will replace; without one, for its owner alone.
fn write_new(path: &Path, new: &Path, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    if let Ok(metadata) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        // Only root may give a file away; another who may write here keeps it for itself.
        let _ = std::os::unix::fs::fchown(&file, Some(metadata.uid()), Some(metadata.gid()));
        file.set_permissions(fs::Permissions::from_mode(metadata.permissions().mode() & 0o777))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

/// Bytes of the longest password that a CONNECT can carry.
const LONGEST: u64 = 65_535;

fn read_password(stdin: bool, twice: bool) -> Result<String, String> {
    let error = |error: io::Error| format!("can't read the password: {error}");
    if !stdin && !io::stdin().is_terminal() {
        return Err("standard input is no terminal: give the password there with --stdin".to_owned());
    }
    if stdin {
        let mut password = String::new();
        let mut input = io::stdin().lock().take(LONGEST + 2);
        input.read_line(&mut password).map_err(error)?;
        return accept(password);
    }
    let password = prompt("Password: ").map_err(error)?;
    if twice && prompt("Again: ").map_err(error)? != password {
        return Err("the two are different".to_owned());
    }
    accept(password)
}

fn accept(password: String) -> Result<String, String> {
    let password = password.trim_end_matches(['\n', '\r']);
    match password.len() as u64 {
        0 => Err("the password is empty".to_owned()),
        1..=LONGEST => Ok(password.to_owned()),
        _ => Err(format!("a password has at most {LONGEST} bytes")),
    }
}

/// Reads a line that the terminal does not show.
fn prompt(text: &str) -> io::Result<String> {
    let stdin = io::stdin();
    eprint!("{text}");
    let before = tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    eprintln!();
    read?;
    Ok(line)
}
