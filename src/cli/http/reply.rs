//! Answers.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

pub(super) type Reply = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Success, with this answer.
pub(super) fn json(value: &Value) -> Reply {
    json_with(StatusCode::OK, value)
}

/// Success, without a word.
pub(super) fn done() -> Reply {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn json_with(status: StatusCode, value: &Value) -> Reply {
    let mut response = respond(status, JSON, format!("{value}\n"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request was not carried out.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    reason: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Fault {
        Fault {
            status,
            reason: reason.into(),
            header: None,
        }
    }

    /// The request makes no sense.
    pub(super) fn bad(reason: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, reason)
    }

    pub(super) fn not_found(reason: impl Into<String>) -> Fault {
        Fault::new(StatusCode::NOT_FOUND, reason)
    }

    /// There are only these methods.
    pub(super) fn method(allowed: &'static str) -> Fault {
        Fault::new(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed}"))
            .with(ALLOW, HeaderValue::from_static(allowed))
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Fault {
        self.header = Some((name, value));
        self
    }

    pub(super) fn reply(self) -> Reply {
        let mut response = json_with(self.status, &json!({ "error": self.reason }));
        response.headers_mut().extend(self.header);
        response
    }
}
