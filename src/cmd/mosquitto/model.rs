//! What a `mosquitto.conf` says, gathered line by line.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::Note;
use super::conf::{Line, Place};
use super::settings;
use super::values::Value;

/// The whole configuration.
#[derive(Debug)]
pub(super) struct Model {
    /// What holds for all listeners, by our names.
    pub(super) settings: Vec<(&'static str, Value)>,
    /// The first is Mosquitto's default listener.
    pub(super) listeners: Vec<Listener>,
    pub(super) per_listener: bool,
    pub(super) access: AccessFiles,
    pub(super) plugins: Vec<Plugin>,
    pub(super) notes: Vec<Note>,
    pub(super) has_packet_size: bool,
    /// Whether state outlives the process, and where Mosquitto keeps it.
    pub(super) persistence: (bool, Option<String>),
    /// The listener that lines of a file are about.
    pub(super) current: HashMap<Rc<Path>, usize>,
}

/// Who may do what, of all listeners or of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AccessFiles {
    pub(super) anonymous: Option<bool>,
    pub(super) password_file: Option<String>,
    pub(super) acl_file: Option<String>,
}

/// A listener as Mosquitto has it.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// Where it begins.
    pub(super) place: Option<Place>,
    pub(super) opening: Opening,
    pub(super) port: u16,
    pub(super) host: Option<String>,
    pub(super) unix_socket: Option<String>,
    pub(super) websocket: bool,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) authorities: Option<String>,
    pub(super) has_authorities_elsewhere: bool,
    pub(super) revoked: Option<String>,
    pub(super) requires_certificate: bool,
    pub(super) is_named_by_certificate: bool,
    pub(super) proxy_protocol: bool,
    pub(super) ipv: Option<u64>,
    pub(super) access: AccessFiles,
    /// By our names.
    pub(super) limits: Vec<(&'static str, Value)>,
    pub(super) origins: Vec<String>,
    /// Why it can't be opened here.
    pub(super) obstacles: Vec<String>,
}

/// Whether and why a listener listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Opening {
    /// It is the default listener, and nothing is known of it.
    #[default]
    Not,
    /// It is the default listener, and a line is about it that does not say where it listens.
    Implied,
    Asked,
}

/// A plugin, and the options behind it.
#[derive(Debug)]
pub(super) struct Plugin {
    pub(super) place: Place,
    /// Of one that listeners refer to.
    pub(super) name: Option<String>,
    pub(super) path: String,
    /// The file that it reads.
    pub(super) file: Option<String>,
    /// Those that it guards; none for all.
    pub(super) listeners: Vec<usize>,
    pub(super) is_global: bool,
}

/// What a plugin does.
pub(super) enum Work<'a> {
    Passwords(Option<&'a String>),
    Acl(Option<&'a String>),
    /// It does not decide who may do what.
    Other,
    /// It may decide anything.
    Unknown,
}

impl Plugin {
    pub(super) fn work(&self) -> Work<'_> {
        let name = Path::new(&self.path).file_stem().unwrap_or_default().to_string_lossy();
        match &*name {
            "mosquitto_password_file" => Work::Passwords(self.file.as_ref()),
            "mosquitto_acl_file" => Work::Acl(self.file.as_ref()),
            "mosquitto_persist_sqlite" | "mosquitto_sparkplug_aware" => Work::Other,
            _ => Work::Unknown,
        }
    }
}

impl Model {
    pub(super) fn new() -> Model {
        let default_listener = Listener {
            port: 1883,
            ..Listener::default()
        };
        Model {
            listeners: vec![default_listener],
            settings: Vec::new(),
            per_listener: false,
            access: AccessFiles::default(),
            plugins: Vec::new(),
            notes: Vec::new(),
            has_packet_size: false,
            persistence: (false, None),
            current: HashMap::new(),
        }
    }

    /// The directory of the store, if there is to be one. Mosquitto's own files stay apart.
    pub(super) fn data_dir(&self) -> Option<String> {
        let (is_on, location) = &self.persistence;
        is_on.then(|| match location {
            Some(location) => format!("{}/broker", location.trim_end_matches('/')),
            None => "broker".to_owned(),
        })
    }

    /// Whether the default listener has access settings, but does not listen.
    pub(super) fn is_default_forgotten(&self) -> bool {
        let first = &self.listeners[0];
        self.listeners.len() > 1 && first.opening != Opening::Asked && first.access != AccessFiles::default()
    }

    pub(super) fn note(&mut self, line: &Line, what: &str, text: &str) {
        self.notes.push(Note {
            place: Some(line.place.clone()),
            text: format!("{} {what}: {text}", line.name),
        });
    }

    /// A value that can't be translated.
    pub(super) fn note_value(&mut self, line: &Line) {
        let text = settings::find(&line.name).map_or("", |setting| setting.text);
        self.notes.push(Note {
            place: Some(line.place.clone()),
            text: format!("{} is not the same: {text}", line.name),
        });
    }

    pub(super) fn current(&self, line: &Line) -> usize {
        self.current.get(&line.place.path).copied().unwrap_or_default()
    }

    /// The listener that the line is about.
    pub(super) fn here(&mut self, line: &Line) -> &mut Listener {
        let current = self.current(line);
        let listener = &mut self.listeners[current];
        if current == 0 && listener.opening != Opening::Asked {
            listener.opening = Opening::Implied;
            listener.place.get_or_insert_with(|| line.place.clone());
        }
        listener
    }

    /// Whose access settings the line changes.
    pub(super) fn access(&mut self, line: &Line) -> &mut AccessFiles {
        match self.per_listener {
            true => {
                let current = self.current(line);
                &mut self.listeners[current].access
            }
            false => &mut self.access,
        }
    }

    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        self.settings.retain(|(other, _)| *other != name);
        self.settings.push((name, value));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.settings.iter().any(|(other, _)| *other == name)
    }

    /// A setting of the listener that the line is about.
    pub(super) fn limit_here(&mut self, line: &Line, name: &'static str, value: Value) {
        let listener = self.here(line);
        listener.limits.retain(|(other, _)| *other != name);
        listener.limits.push((name, value));
    }
}
