//! Requests to the API, one connection each.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Time for an answer: deleting very many retained messages takes a while.
const ANSWER_TIME: Duration = Duration::from_secs(300);
/// Bytes of the largest answer: no packet, and so no payload, is larger.
const LARGEST_ANSWER: usize = 272 * 1024 * 1024;

/// Where the API is, and the token for it.
pub(super) struct Api {
    /// As it was given, for what is said to people.
    url: String,
    host: String,
    port: u16,
    /// What stands before `/api/v1`, behind a proxy perhaps.
    base: String,
    authorization: Option<HeaderValue>,
}

impl Api {
    /// The token is in the file, or in the environment.
    pub(super) fn new(url: &str, token_file: Option<&Path>) -> Result<Api, String> {
        let wrong = || format!("{url:?} is no URL such as http://127.0.0.1:9883");
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?;
        Ok(Api {
            url: url.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(80),
            base: uri.path().trim_end_matches('/').to_owned(),
            authorization: token(token_file)?.map(|token| bearer(&token)).transpose()?,
        })
    }

    /// The answer to a GET.
    pub(super) fn get(&self, path: &Resource) -> Result<Value, String> {
        parse(&self.send(Method::GET, path, None)?)
    }

    /// The answer as it is.
    pub(super) fn get_raw(&self, path: &Resource) -> Result<Bytes, String> {
        self.send(Method::GET, path, None)
    }

    pub(super) fn put(&self, path: &Resource, body: &Value) -> Result<Value, String> {
        parse(&self.send(Method::PUT, path, Some(body))?)
    }

    pub(super) fn post(&self, path: &Resource, body: &Value) -> Result<(), String> {
        self.send(Method::POST, path, Some(body)).map(|_| ())
    }

    /// The answer, if there is one.
    pub(super) fn delete(&self, path: &Resource) -> Result<Option<Value>, String> {
        let answer = self.send(Method::DELETE, path, None)?;
        if answer.is_empty() {
            Ok(None)
        } else {
            parse(&answer).map(Some)
        }
    }

    fn send(&self, method: Method, path: &Resource, body: Option<&Value>) -> Result<Bytes, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("can't start the runtime: {error}"))?;
        let (status, answer) = runtime.block_on(self.exchange(method, path, body))?;
        if status.is_success() {
            return Ok(answer);
        }
        let error = serde_json::from_slice::<Value>(&answer).ok();
        let error = error.as_ref().and_then(|answer| answer["error"].as_str());
        let error = error.unwrap_or("this does not seem to be the API of a broker");
        let hint = match status {
            StatusCode::UNAUTHORIZED if self.authorization.is_none() => " (give --token-file)",
            _ => "",
        };
        Err(format!("{error}{hint} (HTTP {})", status.as_u16()))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &Resource,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", self.url);
        let slow = |_| failed(&"there is no answer in time");
        let address = (self.host.trim_matches(['[', ']']), self.port);
        let socket = timeout(CONNECT_TIME, TcpStream::connect(address)).await.map_err(slow)?;
        let socket = socket.map_err(|error| format!("can't connect to {} (--http-port): {error}", self.url))?;
        let handshake = http1::handshake(TokioIo::new(socket)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
        // It ends with the request, and says there what is wrong.
        tokio::spawn(connection);
        let request = self.request(method, path, body)?;
        let response = timeout(ANSWER_TIME, sender.send_request(request)).await.map_err(slow)?;
        let response = response.map_err(|error| failed(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect();
        let body = timeout(ANSWER_TIME, body).await.map_err(slow)?;
        Ok((status, body.map_err(|error| failed(&error))?.to_bytes()))
    }

    fn request(&self, method: Method, path: &Resource, body: Option<&Value>) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/{}", self.base, path.0))
            .header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        request.body(Full::new(body.into())).map_err(|error| error.to_string())
    }
}

fn parse(answer: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(answer).map_err(|error| format!("the answer is no JSON: {error}"))
}

fn token(file: Option<&Path>) -> Result<Option<String>, String> {
    let Some(path) = file else {
        return Ok(std::env::var("BROKER_HTTP_TOKEN").ok());
    };
    let token = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Some(token))
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
    let mut value = value.map_err(|_| "the token is no line of ASCII characters".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// A path below `/api/v1/`, with its query.
pub(super) struct Resource(String);

impl Resource {
    pub(super) fn new(path: &str) -> Resource {
        Resource(path.to_owned())
    }

    /// One more part, whatever its characters.
    pub(super) fn part(mut self, part: &str) -> Resource {
        self.0.push('/');
        encode(&mut self.0, part);
        self
    }

    /// One more parameter.
    pub(super) fn with(mut self, name: &str, value: &str) -> Resource {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        encode(&mut self.0, value);
        self
    }

    /// One more parameter, if there is a value.
    pub(super) fn with_some(self, name: &str, value: Option<impl ToString>) -> Resource {
        match value {
            Some(value) => self.with(name, &value.to_string()),
            None => self,
        }
    }
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => _ = write!(out, "%{byte:02X}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_can_be_in_a_path() {
        let path = Resource::new("clients").part("a/ü ?").with("cursor", "#+&=");
        assert_eq!(path.0, "clients/a%2F%C3%BC%20%3F?cursor=%23%2B%26%3D");
        let path = path.with_some("limit", Some(7)).with_some("filter", None::<String>);
        assert!(path.0.ends_with("&limit=7"));
    }

    #[test]
    fn urls_are_plain_http() {
        let api = Api::new("http://[::1]:1/base/", None).expect("is right");
        assert_eq!((&*api.host, api.port, &*api.base), ("[::1]", 1, "/base"));
        for url in ["https://localhost", "localhost:9883", "", "http://", "http://a/?x"] {
            assert!(Api::new(url, None).is_err(), "{url}");
        }
    }
}
