//! An HTTP endpoint that is asked who may connect.
//!
//! Invariants:
//! * Fail closed: whatever is not clearly a permission is none. An answer that can't be had is told apart from a refusal.
//! * Whatever the endpoint answers to one client, also what makes no sense, is that client's affair: it keeps nobody else out.
//! * Questions are bounded in number and in time, and while the endpoint does not answer nobody waits for it.
//! * A password is in the question, and nowhere else: what is remembered of it is a hash with a key of this process.

mod circuit;
mod pool;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use data_encoding::BASE64;
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::authenticate::origin;
use super::remembered::Remembered;
use super::verifier::Place;
use super::{rules, who};
use crate::identity::{ClientInfo, Rights, Transport};
use crate::packet::Version;
use circuit::{Circuit, Failure};
use pool::{Pool, Received};

/// Which endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpAuthSettings {
    /// Where it is: `http://host:port/path` or `https://…`.
    pub url: String,
    /// The roots that its certificate leads to, in PEM; needed for `https`.
    pub ca: Option<PathBuf>,
    /// Time for an answer.
    pub timeout: Duration,
    /// For how long a permission is remembered.
    pub cache: Duration,
}

impl HttpAuthSettings {
    /// An endpoint with five seconds for an answer, which is remembered for a minute.
    #[must_use]
    pub fn new(url: impl Into<String>) -> HttpAuthSettings {
        HttpAuthSettings {
            url: url.into(),
            ca: None,
            timeout: Duration::from_secs(5),
            cache: Duration::from_secs(60),
        }
    }
}

/// What the endpoint says of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow(Allowed),
    Deny,
    /// It does not know the user.
    Ignore,
}

/// With what a client is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) rights: Option<Arc<Rights>>,
    /// When it has to ask again.
    pub(super) until: Option<Instant>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Too many clients wait for theirs.
    Busy,
    /// The endpoint does not answer, or has failed.
    Down,
}

/// See the module.
#[derive(Debug)]
pub(super) struct HttpAuth {
    pool: Arc<Pool>,
    timeout: Duration,
    known: Arc<Known>,
}

/// What outlasts a reload that leaves the endpoint as it is.
#[derive(Debug)]
struct Known {
    /// Questions that may be on their way at a time.
    questions: Semaphore,
    waiting: AtomicUsize,
    circuit: Circuit,
    /// Permissions, by Client Identifier; they hold for the same question only.
    remembered: Remembered<Allowed>,
}

/// Questions on their way at a time.
const MOST_QUESTIONS: usize = 16;
/// Clients that may wait for their answer; further ones are told to come back.
const MOST_WAITING: usize = 256;

impl HttpAuth {
    /// Reads the certificates. Does not connect: the endpoint may start after the broker.
    pub(super) fn load(settings: &HttpAuthSettings) -> Result<HttpAuth, String> {
        Ok(HttpAuth {
            pool: Arc::new(Pool::new(&settings.url, settings.ca.as_deref())?),
            timeout: settings.timeout,
            known: Arc::new(Known {
                questions: Semaphore::new(MOST_QUESTIONS),
                waiting: AtomicUsize::new(0),
                circuit: Circuit::default(),
                remembered: Remembered::new(settings.cache),
            }),
        })
    }

    /// The same with what another knows, which has the same settings. The certificates of this one count: they may be new.
    pub(super) fn remembering(&self, before: &HttpAuth) -> HttpAuth {
        HttpAuth {
            pool: Arc::clone(&self.pool),
            timeout: self.timeout,
            known: Arc::clone(&before.known),
        }
    }

    /// The permission that the client had, if it is still remembered.
    pub(super) fn remembers(&self, question: &Question, client: &ClientInfo) -> Option<Allowed> {
        let tag = self.known.remembered.tag(&question.0)?;
        self.known.remembered.get(&client.client_id, &tag)
    }

    /// Asks, and remembers a permission.
    pub(super) async fn ask(&self, question: &Question, client: &ClientInfo) -> Result<Answer, NoAnswer> {
        let Some(_place) = Place::take(&self.known.waiting, MOST_WAITING) else {
            return Err(NoAnswer::Busy);
        };
        self.known.circuit.check()?;
        let turn = timeout(self.timeout, self.known.questions.acquire()).await;
        let _turn = turn.map_err(|_| NoAnswer::Busy)?.map_err(|_| NoAnswer::Down)?;
        let attempt = self.known.circuit.enter(origin(client), self.timeout / 2)?;
        let answer = match timeout(self.timeout, self.pool.post(&question.0)).await {
            Ok(Ok(received)) => read(&received, client),
            Ok(Err(reason)) => Err(Failure::NoAnswer(reason)),
            Err(_) => Err(Failure::NoAnswer("no answer in time".into())),
        };
        match answer {
            Ok(answer) => {
                attempt.succeeded();
                if let Answer::Allow(allowed) = &answer {
                    self.remember(question, client, allowed);
                }
                Ok(answer)
            }
            Err(failure) => {
                attempt.failed(&failure);
                Err(NoAnswer::Down)
            }
        }
    }

    fn remember(&self, question: &Question, client: &ClientInfo, allowed: &Allowed) {
        if let Some(tag) = self.known.remembered.tag(&question.0) {
            self.known
                .remembered
                .add(&client.client_id, &tag, allowed.clone(), allowed.until);
        }
    }
}

/// All that the endpoint is told of a client, in JSON.
pub(super) struct Question(hyper::body::Bytes);

impl Question {
    pub(super) fn new(client: &ClientInfo, password: Option<&[u8]>) -> Question {
        let peer = &client.peer;
        let certificate = peer.certificate.as_deref();
        let mut question = json!({
            "client_id": &*client.client_id,
            "username": client.username.as_deref(),
            "address": peer.address.map(|address| address.ip().to_string()),
            "protocol": match client.version {
                Version::V31 => "3.1",
                Version::V311 => "3.1.1",
                Version::V5 => "5.0",
            },
            "transport": match peer.transport {
                Transport::Tcp => "tcp",
                Transport::Tls => "tls",
                Transport::WebSocket => "ws",
                Transport::SecureWebSocket => "wss",
                Transport::Unix => "unix",
            },
            "listener": peer.listener.as_deref(),
            "common_name": certificate.and_then(|certificate| certificate.common_name.as_deref()),
        });
        // A password may be any bytes, and JSON has text only. The field is always there, and never null where there is a
        // password: endpoints that know nothing of the other one find a wrong password, and not none.
        question["password"] = password.map(String::from_utf8_lossy).into();
        if let Some(bytes) = password.filter(|bytes| std::str::from_utf8(bytes).is_err()) {
            question["password_base64"] = BASE64.encode(bytes).into();
        }
        Question(question.to_string().into())
    }
}

/// What an answer means. One that makes no sense is a refusal.
fn read(received: &Received, client: &ClientInfo) -> Result<Answer, Failure> {
    let answer = match received {
        Received::Whole(status, _) | Received::TooLong(Some(status)) if status.is_server_error() => {
            return Err(Failure::Error(format!("status {}", status.as_u16()).into()));
        }
        Received::Whole(StatusCode::OK, body) => parse(body, client),
        Received::Whole(StatusCode::NO_CONTENT, _) => Ok(Answer::Allow(Allowed::default())),
        Received::Whole(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Ok(Answer::Deny),
        Received::Whole(status, _) => Err(format!("status {}", status.as_u16()).into()),
        Received::TooLong(_) => Err("it is too long".into()),
    };
    Ok(answer.unwrap_or_else(|reason: Box<str>| {
        let client = &*client.client_id;
        tracing::warn!(
            client,
            reason,
            "the answer of the HTTP endpoint makes no sense: the client is refused"
        );
        Answer::Deny
    }))
}

fn parse(body: &[u8], client: &ClientInfo) -> Result<Answer, Box<str>> {
    let body: Map<String, Value> = serde_json::from_slice(body).map_err(|_| "it is no JSON object")?;
    match body.get("result").and_then(Value::as_str) {
        Some("allow") => Ok(Answer::Allow(allowed(&body, client)?)),
        Some("deny") => Ok(Answer::Deny),
        Some("ignore") => Ok(Answer::Ignore),
        _ => Err("the result is neither allow, deny nor ignore".into()),
    }
}

fn allowed(body: &Map<String, Value>, client: &ClientInfo) -> Result<Allowed, Box<str>> {
    let given = |name| body.get(name).filter(|value| !value.is_null());
    let is_superuser = match given("is_superuser") {
        None => false,
        Some(value) => value.as_bool().ok_or("is_superuser is not true or false")?,
    };
    let until = match given("expires_in") {
        None => None,
        Some(value) => {
            let seconds = value.as_f64().filter(|seconds| *seconds > 0.0);
            let seconds = seconds.ok_or("expires_in is no number of seconds")?.min(MOST_SECONDS);
            Some(Instant::now() + Duration::from_secs_f64(seconds))
        }
    };
    let rights = match given("acl") {
        _ if is_superuser => Some(Rights {
            everything: true,
            ..Rights::default()
        }),
        None => None,
        Some(rules) => Some(rules::rights(rules, &who(client)).map_err(|reason| format!("acl: {reason}"))?),
    };
    Ok(Allowed {
        rights: rights.map(Arc::new),
        until,
    })
}

/// A hundred years.
const MOST_SECONDS: f64 = 100.0 * 365.0 * 86_400.0;

#[cfg(test)]
mod tests;
