//! The HTTP listener: metrics, whether the broker lives and serves, and the API for those who have its token.

mod api;
mod guard;
mod query;
mod reply;
mod token;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::logging::Log;
use crate::Broker;
use guard::Guard;
use reply::{Reply, respond};
pub(super) use token::Token;

/// Connections at a time; further ones wait.
const MOST_CONNECTIONS: usize = 64;
/// Time to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Time that a connection may last.
const CONNECTION_TIME: Duration = Duration::from_secs(300);
/// Pause after an error that is likely to come again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the listener is to be; only this machine may connect, unless the address says otherwise.
pub(super) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, String> {
    let bound = std::net::TcpListener::bind(address).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    bound.map_err(|error| format!("can't listen for HTTP on {address}: {error}"))
}

/// What is served, to which a connection and whoever reloads have a handle.
#[derive(Clone)]
pub(super) struct Service(Arc<Shared>);

struct Shared {
    broker: Broker,
    log: Log,
    guard: Guard,
    settings: RwLock<Settings>,
}

/// What a reload may change.
#[derive(Default)]
struct Settings {
    /// Where MQTT clients connect.
    listeners: Vec<String>,
    /// Bytes of the largest body.
    body_limit: usize,
}

/// Bytes of the largest body, whatever the largest packet.
const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// What a body may have beside the largest packet in base64.
const BODY_ROOM: usize = 1024 * 1024;

impl Service {
    /// The API is off until there is a token.
    pub(super) fn new(broker: Broker, log: Log) -> Service {
        Service(Arc::new(Shared {
            broker,
            log,
            guard: Guard::default(),
            settings: RwLock::default(),
        }))
    }

    /// Puts these into force. Without a token the API is off.
    pub(super) fn apply(&self, token: Option<Token>, listeners: Vec<String>, max_packet_size: u32) {
        self.0.guard.replace(token);
        *self.0.settings.write() = Settings {
            listeners,
            body_limit: LARGEST_BODY.min(BODY_ROOM + max_packet_size as usize / 3 * 4),
        };
    }

    /// Serves until it is dropped. Each connection is bounded in time.
    pub(super) async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((socket, from)) => {
                    let service = self.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        let _ = tokio::time::timeout(CONNECTION_TIME, service.serve_connection(socket, from)).await;
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn serve_connection(self, socket: TcpStream, from: SocketAddr) {
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&self.0);
            async move { Ok::<_, Infallible>(answer(&shared, request, from).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(16 * 1024);
        // An error is the client's.
        let _ = http.serve_connection(TokioIo::new(socket), service).await;
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Version 0.0.4 of the text format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

async fn answer(shared: &Shared, request: Request<Incoming>, from: SocketAddr) -> Reply {
    if request.uri().path().starts_with("/api/") {
        return api::answer(shared, request, from).await;
    }
    answer_all(shared, &request)
}

/// What needs no token.
fn answer_all(shared: &Shared, request: &Request<Incoming>) -> Reply {
    let broker = &shared.broker;
    let known = matches!(request.uri().path(), "/metrics" | "/healthz" | "/readyz");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => respond(StatusCode::OK, METRICS, broker.metrics()),
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" if broker.is_stopping() => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n"),
        "/readyz" if broker.is_store_failing() => {
            respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the store takes no changes\n")
        }
        "/readyz" => respond(StatusCode::OK, TEXT, "ready\n"),
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /metrics, /healthz, /readyz and /api/v1/\n",
        ),
    }
}
