//! The HTTP listener: metrics, and whether the broker lives and serves.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::Broker;

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

/// Serves until it is dropped. Each connection is bounded in time.
pub(super) async fn serve(listener: TcpListener, broker: Broker) {
    let places = std::sync::Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((socket, _)) => {
                let broker = broker.clone();
                tokio::spawn(async move {
                    let _place = place;
                    let _ = tokio::time::timeout(CONNECTION_TIME, serve_connection(socket, broker)).await;
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve_connection(socket: TcpStream, broker: Broker) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &broker);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(16 * 1024);
    // An error is the client's.
    let _ = http.serve_connection(TokioIo::new(socket), service).await;
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Version 0.0.4 of the text format.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

fn answer(request: &Request<Incoming>, broker: &Broker) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/metrics" | "/healthz" | "/readyz");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n".to_owned());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => respond(StatusCode::OK, METRICS, broker.metrics()),
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if broker.is_stopping() => {
            respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "shutting down\n".to_owned())
        }
        "/readyz" => respond(StatusCode::OK, TEXT, "ready\n".to_owned()),
        _ => respond(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /metrics, /healthz and /readyz\n".to_owned(),
        ),
    }
}

fn respond(status: StatusCode, kind: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
