//! The API below `/api/v1/`: from a request to what answers it.

mod body;
mod clients;
mod cluster;
mod operation;
mod publish;
mod retained;
mod subscriptions;

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::{Method, Request};

use super::Shared;
use super::query::{Query, decode};
use super::reply::{Fault, Reply};

/// What there is, by path.
#[derive(Debug, PartialEq, Eq)]
enum Resource {
    Node,
    Cluster,
    Clients,
    Client(String),
    Sessions,
    Subscriptions,
    Retained,
    RetainedMessage,
    Publish,
    Log,
    Trace,
}

pub(super) async fn answer(shared: &Shared, request: Request<Incoming>, from: SocketAddr) -> Reply {
    let answered = match shared.guard.admit(&request, from) {
        Ok(()) => carry_out(shared, request).await,
        Err(fault) => Err(fault),
    };
    answered.unwrap_or_else(Fault::reply)
}

async fn carry_out(shared: &Shared, request: Request<Incoming>) -> Result<Reply, Fault> {
    let resource = Resource::at(request.uri().path())?;
    let allowed = resource.methods();
    let method = match request.method() {
        // What a HEAD does without is left out by the server.
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    if !allowed.split(", ").any(|one| one == method.as_str()) {
        return Err(Fault::method(allowed));
    }
    let query = Query::parse(request.uri().query())?;
    let is_get = method == Method::GET;
    match resource {
        Resource::Node => operation::node(shared, query).await,
        Resource::Cluster => cluster::show(shared, query).await,
        Resource::Clients => clients::list(shared, query).await,
        Resource::Sessions => clients::list_sessions(shared, query).await,
        Resource::Client(id) if is_get => clients::show(shared, &id, query).await,
        Resource::Client(id) => clients::disconnect(shared, &id, query).await,
        Resource::Subscriptions => subscriptions::list(shared, query).await,
        Resource::Retained if is_get => retained::list(shared, query).await,
        Resource::Retained => retained::clear(shared, query).await,
        Resource::RetainedMessage => retained::message(shared, query),
        Resource::Publish => publish::publish(shared, query, request).await,
        Resource::Log if is_get => operation::log(shared, query),
        Resource::Log => operation::set_log(shared, query, request).await,
        Resource::Trace if is_get => operation::trace(shared, query),
        Resource::Trace if method == Method::PUT => operation::set_trace(shared, query, request).await,
        Resource::Trace => operation::end_trace(shared, query).await,
    }
}

impl Resource {
    /// A part of a path is decoded for itself: a `/` that is encoded is no end of a part, and `..` is a name like others.
    fn at(path: &str) -> Result<Resource, Fault> {
        let nothing = || Fault::not_found("there is nothing here; docs/http-api.md lists what there is");
        let path = path.strip_prefix("/api/v1/").ok_or_else(nothing)?;
        let parts: Vec<_> = path.split('/').collect();
        Ok(match parts[..] {
            ["node"] => Resource::Node,
            ["cluster"] => Resource::Cluster,
            ["clients"] => Resource::Clients,
            ["clients", id] if !id.is_empty() => Resource::Client(decode(id)?),
            ["sessions"] => Resource::Sessions,
            ["subscriptions"] => Resource::Subscriptions,
            ["retained"] => Resource::Retained,
            ["retained", "message"] => Resource::RetainedMessage,
            ["publish"] => Resource::Publish,
            ["log"] => Resource::Log,
            ["trace"] => Resource::Trace,
            _ => return Err(nothing()),
        })
    }

    fn methods(&self) -> &'static str {
        match self {
            Resource::Client(_) | Resource::Retained => "GET, HEAD, DELETE",
            Resource::Publish => "POST",
            Resource::Log => "GET, HEAD, PUT",
            Resource::Trace => "GET, HEAD, PUT, DELETE",
            Resource::Node
            | Resource::Cluster
            | Resource::Clients
            | Resource::Sessions
            | Resource::Subscriptions
            | Resource::RetainedMessage => "GET, HEAD",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_what_they_name_and_nowhere_else() {
        let at = |path| Resource::at(path).ok();
        assert_eq!(at("/api/v1/clients"), Some(Resource::Clients));
        assert_eq!(at("/api/v1/clients/a%2Fb"), Some(Resource::Client("a/b".into())));
        assert_eq!(at("/api/v1/clients/.."), Some(Resource::Client("..".into())));
        assert_eq!(at("/api/v1/clients/%252e"), Some(Resource::Client("%2e".into())));
        for path in [
            "/api/",
            "/api/v1",
            "/api/v1/",
            "/api/v2/clients",
            "/api/v1/clients/",
            "/api/v1/clients/a/b",
            "/api/v1//clients",
            "/api/v1/../v1/clients",
            "/api/v1/%63lients",
            "/api/v1/clients/%",
            "/api/v1/clients/%ff",
        ] {
            assert_eq!(at(path), None, "{path}");
        }
    }
}
