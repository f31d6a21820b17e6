//! The broker with its listeners, and how it gets other settings while it runs.
//!
//! Invariant: a [`Plan`] is made of everything that can fail: files that are read, sockets that are bound. Putting it
//! into force can't fail, so either all of the new settings are in force, or all of the old ones.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use super::files_limit::connections_that_fit;
use super::http;
use super::listening::bind::{self, Bound, SocketFile};
use super::listening::spec::{Key, Spec};
use super::logging::{Filter, Log};
use super::options::Options;
use crate::broker::policy::Policy;
use crate::server::{Front, FrontHandle};
use crate::{Access, AccessSettings, Broker, Config, Persistence, Tls, TlsSettings};

/// See the module.
pub(super) struct Running {
    pub(super) broker: Broker,
    held: Held,
    listeners: Vec<Open>,
    serving: JoinSet<io::Result<()>>,
    watches: Vec<AbortHandle>,
    http: Option<(SocketAddr, AbortHandle)>,
    service: http::Service,
    log: Log,
}

/// What a new plan is compared with.
#[derive(Clone, Default)]
pub(super) struct Held {
    access: Option<Access>,
    /// The rules of listeners that have their own.
    named: HashMap<Arc<str>, Access>,
    open: Vec<Key>,
    http: Option<SocketAddr>,
}

/// A listener in service.
struct Open {
    key: Key,
    front: FrontHandle,
    serving: AbortHandle,
    /// Where clients connect.
    url: String,
    _file: Option<SocketFile>,
}

/// Settings that are known to be right, and what they need.
pub(super) struct Plan {
    config: Config,
    access: Access,
    named: Vec<(Arc<str>, Config, Option<Access>)>,
    tls: Vec<(TlsSettings, Tls)>,
    listeners: Vec<Planned>,
    http: Option<(SocketAddr, Option<std::net::TcpListener>)>,
    token: Option<http::Token>,
    log: Filter,
    anonymous: bool,
}

struct Planned {
    key: Key,
    front: Front,
    /// None if it is there; with where clients connect.
    bound: Option<(Bound, String)>,
}

impl Plan {
    /// Reads the files and binds the sockets. Blocks; needs the context of a runtime.
    pub(super) fn make(options: &Options, held: &Held) -> Result<Plan, String> {
        let mut plan = Plan::read(options, held)?;
        let mut open = held.open.clone();
        for spec in options.specs()? {
            plan.add(&spec, &mut open)?;
        }
        if plan.listeners.is_empty() {
            return Err("this machine has none of the addresses to listen on".to_owned());
        }
        plan.http = plan_http(options, held)?;
        Ok(plan)
    }

    /// Whether a plan could be made, if the addresses are free.
    pub(super) fn check(options: &Options) -> Result<(), String> {
        let mut plan = Plan::read(options, &Held::default())?;
        for spec in options.specs()? {
            spec.tls.as_ref().map(|settings| plan.tls(settings)).transpose()?;
        }
        Ok(())
    }

    /// Without anything to listen on.
    fn read(options: &Options, held: &Held) -> Result<Plan, String> {
        let certificate_names = options.has_certificate_names();
        let settings = options.access.settings(certificate_names);
        let access = load(held.access.as_ref(), settings.clone())?;
        let mut named = Vec::new();
        for listener in &options.listeners {
            let own = listener.options.access.settings(certificate_names);
            let own = match own == settings {
                true => None,
                false => Some(load(Some(&access), own)?),
            };
            let mut config = listener.options.config();
            config.max_connections = listener.options.max_connections.unwrap_or(usize::MAX);
            named.push((Arc::clone(&listener.name), config, own));
        }
        let mut config = options.config();
        config.max_connections = connections_that_fit(options.max_connections);
        config.max_memory = options.rates.max_memory();
        Ok(Plan {
            config,
            access,
            named,
            tls: Vec::new(),
            listeners: Vec::new(),
            http: None,
            token: options.listening.load_http_token()?,
            log: options.log_filter(),
            anonymous: false,
        })
    }

    fn add(&mut self, spec: &Spec, open: &mut Vec<Key>) -> Result<(), String> {
        let tls = match &spec.tls {
            Some(settings) => Some(self.tls(settings)?),
            None => None,
        };
        self.anonymous |= spec.is_open();
        if !self.named.iter().any(|(name, ..)| *name == spec.name) {
            // Without a table: as the broker. Its connections are counted with all others.
            let mut config = self.config.clone();
            config.max_connections = usize::MAX;
            self.named.push((Arc::clone(&spec.name), config, None));
        }
        let (key, front) = (spec.key(), spec.front(tls));
        let bound = match open.iter().position(|open| *open == key) {
            Some(position) => {
                open.remove(position);
                None
            }
            None => {
                let Some(bound) = bind::bind(spec)? else { return Ok(()) };
                let url = spec.url(bound.address);
                Some((bound, url))
            }
        };
        self.listeners.push(Planned { key, front, bound });
        Ok(())
    }

    /// The certificates with these settings, read once for all listeners that share them.
    fn tls(&mut self, settings: &TlsSettings) -> Result<Tls, String> {
        if let Some((_, tls)) = self.tls.iter().find(|(known, _)| known == settings) {
            return Ok(tls.clone());
        }
        let tls = Tls::load(settings.clone()).map_err(|error| error.to_string())?;
        self.tls.push((settings.clone(), tls.clone()));
        Ok(tls)
    }

    /// Starts the broker, without listeners. Blocks while it reads its store; needs the context of a runtime.
    pub(super) fn start_broker(&self, persistence: Persistence) -> Result<Broker, String> {
        let builder = Broker::builder()
            .config(self.config.clone())
            .access(self.access.clone())
            .persistence(persistence);
        builder.try_start().map_err(|error| error.to_string())
    }

    /// Prints where clients may connect that could not before; warns if that is everybody.
    pub(super) fn announce(&self) -> Result<(), String> {
        let http = self
            .http
            .as_ref()
            .and_then(|(_, socket)| socket.as_ref()?.local_addr().ok());
        let http = http.map(|address| format!("http://{address}/metrics"));
        let opened = self.listeners.iter().filter_map(|planned| planned.bound.as_ref());
        for url in opened.map(|(_, url)| url).chain(&http) {
            writeln!(io::stdout(), "listening on {url}")
                .map_err(|error| format!("can't write to standard output: {error}"))?;
        }
        if self.anonymous {
            tracing::warn!(
                "anonymous access is open to every host that can reach this address (--host 127.0.0.1 keeps it to this machine)"
            );
        }
        Ok(())
    }
}

/// With the threads and the counts of those in force, if there are any.
fn load(beside: Option<&Access>, settings: AccessSettings) -> Result<Access, String> {
    let loaded = match beside {
        Some(access) => access.load_beside(settings),
        None => Access::load(settings),
    };
    loaded.map_err(|error| error.to_string())
}

fn plan_http(options: &Options, held: &Held) -> Result<Option<(SocketAddr, Option<std::net::TcpListener>)>, String> {
    let Some(address) = options.listening.http_address() else {
        return Ok(None);
    };
    if held.http == Some(address) {
        return Ok(Some((address, None)));
    }
    Ok(Some((address, Some(http::bind(address)?))))
}

impl Running {
    /// Puts the first plan, that the broker was started with, into force.
    pub(super) fn start(broker: Broker, plan: Plan, log: Log) -> Running {
        let mut running = Running {
            service: http::Service::new(broker.clone(), log.clone()),
            log,
            broker,
            held: Held {
                access: Some(plan.access.clone()),
                ..Held::default()
            },
            listeners: Vec::new(),
            serving: JoinSet::new(),
            watches: Vec::new(),
            http: None,
        };
        running.apply(plan);
        running
    }

    /// What the next plan is to be compared with.
    pub(super) fn held(&self) -> Held {
        self.held.clone()
    }

    /// Puts the plan into force. Clients that may not do any more what they do are told.
    pub(super) fn apply(&mut self, plan: Plan) {
        let max_packet_size = plan.config.max_packet_size;
        self.apply_policies(plan.config, &plan.access, plan.named);
        self.apply_tls(plan.tls.into_iter().map(|(_, tls)| tls).collect());
        self.apply_listeners(plan.listeners);
        let urls = self.listeners.iter().map(|open| open.url.clone());
        self.service.apply(plan.token, urls.collect(), max_packet_size);
        self.log.set(plan.log);
        if let Some(http) = self.apply_http(plan.http) {
            self.http = http;
        }
        self.held.http = self.http.as_ref().map(|(address, _)| *address);
        self.broker.recheck();
    }

    fn apply_policies(&mut self, config: Config, access: &Access, named: Vec<(Arc<str>, Config, Option<Access>)>) {
        let default = self.held.access.get_or_insert_with(|| access.clone()).clone();
        default.adopt(access);
        let mut policies = HashMap::new();
        let mut before = std::mem::take(&mut self.held.named);
        for (name, config, own) in named {
            let access = match own {
                Some(own) => {
                    let held = before.remove(&name).unwrap_or_else(|| own.clone());
                    held.adopt(&own);
                    self.held.named.insert(Arc::clone(&name), held.clone());
                    held
                }
                None => default.clone(),
            };
            let config = Arc::new(config);
            policies.insert(name, Policy { config, access });
        }
        let config = Arc::new(config);
        self.broker.core.reconfigure(|set| {
            set.default.config = config;
            set.replace_named(policies);
        });
    }

    /// Whoever has the old certificates gets a front with the new ones.
    fn apply_tls(&mut self, planned: Vec<Tls>) {
        self.watches.drain(..).for_each(|watch| watch.abort());
        let watch = |tls: Tls| tokio::spawn(tls.watch()).abort_handle();
        self.watches.extend(planned.into_iter().map(watch));
    }

    fn apply_listeners(&mut self, planned: Vec<Planned>) {
        let mut before = std::mem::take(&mut self.listeners);
        for Planned { key, front, bound } in planned {
            if let Some((bound, url)) = bound {
                bound.listener.handle().replace(front);
                self.open(key, bound, url);
            } else if let Some(position) = before.iter().position(|open| open.key == key) {
                let open = before.remove(position);
                open.front.replace(front);
                self.listeners.push(open);
            }
        }
        for gone in before {
            tracing::info!(at = %gone.key.at, "no longer listening");
            gone.serving.abort();
        }
        self.held.open = self.listeners.iter().map(|open| open.key.clone()).collect();
    }

    fn open(&mut self, key: Key, bound: Bound, url: String) {
        let Bound { listener, file, .. } = bound;
        let front = listener.handle();
        let broker = self.broker.clone();
        let serving = self.serving.spawn(async move { broker.serve(listener).await });
        self.listeners.push(Open {
            key,
            front,
            serving,
            url,
            _file: file,
        });
    }

    /// `None` if HTTP is served where it was.
    fn apply_http(
        &mut self,
        planned: Option<(SocketAddr, Option<std::net::TcpListener>)>,
    ) -> Option<Option<(SocketAddr, AbortHandle)>> {
        let new = match planned {
            Some((_, None)) => return None,
            Some((address, Some(socket))) => TcpListener::from_std(socket).ok().map(|socket| (address, socket)),
            None => None,
        };
        if let Some((_, serving)) = self.http.take() {
            serving.abort();
        }
        if let Some(cluster) = &self.broker.core.cluster {
            let address = new.as_ref().and_then(|(_, socket)| socket.local_addr().ok());
            cluster.set_http(address.map(|address| format!("http://{address}")));
        }
        Some(new.map(|(address, socket)| {
            let serving = tokio::spawn(self.service.clone().serve(socket));
            (address, serving.abort_handle())
        }))
    }

    /// Waits until a listener fails for good; returns why. May be dropped and called again.
    pub(super) async fn failure(&mut self) -> String {
        failure(&mut self.serving).await
    }

    /// Accepts nobody any more, and removes the files of sockets: the next broker may want to be there. HTTP is served
    /// on: it tells of the shutdown.
    pub(super) fn close_listeners(&mut self) {
        self.serving.abort_all();
        self.listeners.clear();
        self.watches.drain(..).for_each(|watch| watch.abort());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((_, serving)) = &self.http {
            serving.abort();
        }
    }
}

/// Waits for a listener that has failed. Those that a reload has closed have not.
async fn failure(serving: &mut JoinSet<io::Result<()>>) -> String {
    while let Some(ended) = serving.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("a listener failed: {error}"),
            Err(error) if error.is_cancelled() => {}
            Err(error) => return format!("a listener failed, by a fault of the broker: {error}"),
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that nobody serves any more is not left open without a word, also if others were closed before.
    #[tokio::test]
    async fn listeners_that_fail_are_noticed() {
        let closed = |serving: &mut JoinSet<_>| serving.spawn(std::future::pending()).abort();
        let mut serving = JoinSet::new();
        closed(&mut serving);
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(50), failure(&mut serving));
        nothing.await.expect_err("a closed one has not failed");
        closed(&mut serving);
        serving.spawn(async { panic!("of the test") });
        let reason = failure(&mut serving).await;
        assert!(reason.contains("fault of the broker"), "{reason}");
        closed(&mut serving);
        serving.spawn(async { Err(io::Error::other("gone")) });
        assert_eq!(failure(&mut serving).await, "a listener failed: gone");
    }
}
