//! A broker whose HTTP API is open, and its users: curl, raw sockets, `broker ctl`.
//!
//! No part of `common`: the tests that need it say so, and the others do without the implementations for JSON.

#![allow(dead_code, unreachable_pub, missing_docs)]

use crate::common::{Broker, DEADLINE};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// The token in the file, at first.
pub const TOKEN: &str = "0123456789-a-token-for-tests";

/// See the module.
pub struct Api {
    pub broker: Broker,
    pub address: SocketAddr,
    directory: tempfile::TempDir,
}

/// A status and a body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// The JSON of a success.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts that it is a JSON error with this status, whose text contains this.
    pub fn expect_error(&self, status: u16, text: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let error = body["error"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        assert!(error.contains(text), "{self:?}");
    }

    pub fn expect_done(&self) {
        assert_eq!((self.status, &*self.body), (204, ""), "{self:?}");
    }
}

impl Api {
    pub fn start(options: &[&str]) -> Api {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        fs::write(&file, format!("{TOKEN}\n")).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        let file = file.to_str().expect("UTF-8");
        let broker = Broker::start(&[&["--http-port", "0", "--http-token-file", file], options].concat());
        Api {
            address: broker.addr_of("http"),
            broker,
            directory,
        }
    }

    pub fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    /// What curl gets, with the token, below `/api/v1/`.
    pub fn curl(&self, path: &str, options: &[&str]) -> Answer {
        let token = format!("Authorization: Bearer {TOKEN}");
        self.curl_without_token(path, &[&["-H", &token], options].concat())
    }

    pub fn curl_without_token(&self, path: &str, options: &[&str]) -> Answer {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--path-as-is", "--max-time", "20"])
            .args(["--write-out", "\n%{http_code}"])
            .args(options)
            .arg(format!("http://{}/api/v1/{path}", self.address))
            .output()
            .expect("curl is installed");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let (body, status) = text.rsplit_once('\n').expect("a status");
        let status = status.parse().unwrap_or_default();
        assert_ne!(status, 0, "{}", String::from_utf8_lossy(&output.stderr));
        Answer {
            status,
            body: body.to_owned(),
        }
    }

    pub fn get(&self, path: &str) -> Value {
        self.curl(path, &[]).json()
    }

    /// A request with a JSON body.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let kind = "Content-Type: application/json";
        self.curl(path, &["-X", method, "-H", kind, "--data-binary", body])
    }

    /// What comes for these bytes, until the connection is closed.
    pub fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut socket = TcpStream::connect(self.address).expect("connected");
        socket.set_read_timeout(Some(DEADLINE)).expect("set");
        // It may be cut while it sends.
        let _ = socket.write_all(request.as_ref());
        let mut response = Vec::new();
        let _ = socket.read_to_end(&mut response);
        String::from_utf8_lossy(&response).into_owned()
    }

    /// `broker ctl`, which knows where the broker is, and the token.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_command(arguments).output().expect("it runs")
    }

    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command
            .arg("ctl")
            .args(arguments)
            .env("BROKER_HTTP_URL", format!("http://{}", self.address))
            .env("BROKER_HTTP_TOKEN_FILE", self.token_file());
        command
    }

    /// What `broker ctl` prints when it succeeds.
    pub fn ctl_prints(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*errors), (Some(0), ""), "{arguments:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}
