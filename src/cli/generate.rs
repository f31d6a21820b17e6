//! `broker completions` and `broker man`: what packages bring besides the program.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::options::Options;

/// Prints the completions of a shell.
#[derive(Clone, Debug, Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Prints the manual page, in roff.
#[derive(Clone, Debug, Args)]
pub(super) struct Manual {
    /// Write a page for the broker and one for each subcommand into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Does what the command says.
pub(super) fn completions(options: &Completions) -> Result<(), String> {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut Options::command(), "broker", &mut text);
    print(&text)
}

/// Does what the command says.
pub(super) fn manual(options: &Manual) -> Result<(), String> {
    let command = Options::command().hide_environment_values();
    let Some(directory) = &options.dir else {
        let mut text = Vec::new();
        Man::new(command).render(&mut text).map_err(|error| error.to_string())?;
        return print(&text);
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|error| format!("{}: {error}", directory.display()))
}

trait HideEnvironment {
    /// What the environment holds now is not for a page.
    fn hide_environment_values(self) -> Self;
}

impl HideEnvironment for clap::Command {
    fn hide_environment_values(self) -> clap::Command {
        self.mut_args(|arg| arg.hide_env_values(true))
            .mut_subcommands(HideEnvironment::hide_environment_values)
    }
}

/// A reader that goes early has seen enough.
fn print(text: &[u8]) -> Result<(), String> {
    match io::stdout().write_all(text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("can't write to standard output: {error}")),
        _ => Ok(()),
    }
}
