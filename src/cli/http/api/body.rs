//! Bodies: JSON objects, within bounds of size and time.

use std::time::Duration;

use data_encoding::BASE64;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use serde_json::{Map, Value};

use crate::cli::http::Shared;
use crate::cli::http::reply::Fault;

/// Time for a body to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The fields of an object, each of which is to be taken.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

/// Reads the object in a body.
pub(super) async fn read(shared: &Shared, request: Request<Incoming>) -> Result<Fields, Fault> {
    if !is_json(&request) {
        let reason = "the body is to be JSON, with Content-Type: application/json";
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let limit = shared.settings.read().body_limit;
    let too_large = || {
        Fault::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a body has at most {limit} bytes"),
        )
    };
    let body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_TIME, Limited::new(body, limit).collect()).await;
    let collected = collected.map_err(|_| {
        let reason = format!("the body has not arrived within {} seconds", BODY_TIME.as_secs());
        Fault::new(StatusCode::REQUEST_TIMEOUT, reason)
    })?;
    let body = collected.map_err(|error| match error.is::<LengthLimitError>() {
        true => too_large(),
        false => Fault::bad(format!("can't read the body: {error}")),
    })?;
    Fields::parse(&body.to_bytes())
}

fn is_json<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

impl Fields {
    fn parse(body: &[u8]) -> Result<Fields, Fault> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err(Fault::bad("the body is to be a JSON object")),
            Err(error) => Err(Fault::bad(format!("the body is no JSON: {error}"))),
        }
    }

    /// What is `null` is not there.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn take_text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        self.take(name).map(|value| text(name, value)).transpose()
    }

    pub(super) fn take_bool(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        let wrong = || Fault::bad(format!("{name:?} is true or false"));
        self.take(name)
            .map(|value| value.as_bool().ok_or_else(wrong))
            .transpose()
    }

    pub(super) fn take_number(&mut self, name: &str, most: u32) -> Result<Option<u32>, Fault> {
        let number = |value: Value| {
            let number = value.as_u64().filter(|number| *number <= u64::from(most));
            number.and_then(|number| u32::try_from(number).ok())
        };
        let wrong = || Fault::bad(format!("{name:?} is a whole number, 0 to {most}"));
        self.take(name).map(|value| number(value).ok_or_else(wrong)).transpose()
    }

    /// Bytes: those of a text, or of `NAME_base64`.
    pub(super) fn take_bytes(&mut self, name: &str) -> Result<Option<Vec<u8>>, Fault> {
        let encoded = format!("{name}_base64");
        match (self.take_text(name)?, self.take_text(&encoded)?) {
            (Some(_), Some(_)) => Err(Fault::bad(format!("{name:?} and {encoded:?} are both there"))),
            (Some(text), None) => Ok(Some(text.into_bytes())),
            (None, Some(text)) => {
                let bytes = BASE64.decode(text.as_bytes());
                bytes
                    .map(Some)
                    .map_err(|_| Fault::bad(format!("{encoded:?} is no base64")))
            }
            (None, None) => Ok(None),
        }
    }

    /// A list of texts.
    pub(super) fn take_texts(&mut self, name: &str) -> Result<Vec<String>, Fault> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.into_iter().map(|item| text(name, item)).collect(),
            Some(_) => Err(Fault::bad(format!("{name:?} is a list of strings"))),
        }
    }

    /// To be called when all that is known has been taken: a field with a slip in its name must not be without effect.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(Fault::bad(format!("there is no field {name:?}"))),
            None => Ok(()),
        }
    }
}

fn text(name: &str, value: Value) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Fault::bad(format!("{name:?} is a string"))),
    }
}
