//! Who may connect, and who may publish and subscribe to what.
//!
//! Clients log in with a password. Each has a place of its own, `home/<user>/…`, which it may also call `~/…`; all of
//! them read `news/…`, and only `admin` writes there.
//!
//! ```text
//! cargo run --example hooks
//! mosquitto_sub -u ann -P apple -t '~/#' -t 'news/#' -v
//! mosquitto_pub -u ann -P apple -t ~/door -m open
//! mosquitto_pub -u ann -P apple -t news/today -m hello        # nobody gets it
//! mosquitto_pub -u admin -P secret -t news/today -m hello
//! ```

use std::error::Error;
use std::future::Future;

use mqtt_broker::{
    Broker, ClientInfo, ConnectRequest, Hooks, Interests, PublishRequest, PublishVerdict, ReasonCode, SubscribeVerdict,
    SubscriptionOptions, TopicFilter, async_trait,
};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:1883").await?;
    println!("listening on mqtt://{}; end with Ctrl-C", listener.local_addr()?);
    run(listener, async { drop(tokio::signal::ctrl_c().await) }).await
}

/// Serves until `stop` is done.
pub(crate) async fn run(listener: TcpListener, stop: impl Future<Output = ()>) -> Result<(), Box<dyn Error>> {
    let users = vec![("admin", "secret"), ("ann", "apple"), ("bob", "banana")];
    let broker = Broker::builder().hooks(Rules { users }).start();
    tokio::select! {
        result = broker.serve(listener) => result?,
        () = stop => broker.shutdown().await,
    }
    Ok(())
}

/// A real program would look the users up in a database: every hook is async, and only the client that asks waits.
struct Rules {
    users: Vec<(&'static str, &'static str)>,
}

#[async_trait]
impl Hooks for Rules {
    /// Hooks that are not named here are not called, and cost nothing.
    fn interests(&self) -> Interests {
        let mut interests = Interests::NONE;
        interests.authenticate = true;
        interests.authorize_publish = true;
        interests.authorize_subscribe = true;
        interests
    }

    async fn authenticate(&self, request: &ConnectRequest<'_>) -> Result<(), ReasonCode> {
        let name = request.client.username.as_deref().ok_or(ReasonCode::NotAuthorized)?;
        let password = request.password.unwrap_or_default();
        match self
            .users
            .iter()
            .any(|(user, secret)| *user == name && secret.as_bytes() == password)
        {
            true => Ok(()),
            false => Err(ReasonCode::BadUserNameOrPassword),
        }
    }

    /// Wills come here too.
    async fn authorize_publish(&self, client: &ClientInfo, request: &PublishRequest<'_>) -> PublishVerdict {
        let topic = at_home(client, request.topic());
        let allowed = user(client) == "admin" || topic.starts_with(&home(client));
        if !allowed {
            return PublishVerdict::Refuse(ReasonCode::NotAuthorized);
        }
        // Everything else of the message stays as it is: payload, QoS, properties.
        match request.to_message().topic(topic) {
            Ok(message) => PublishVerdict::Rewrite(message),
            Err(_) => PublishVerdict::Refuse(ReasonCode::TopicNameInvalid),
        }
    }

    /// Asked again when a client comes back to a session, with the filter as it was rewritten then.
    async fn authorize_subscribe(
        &self,
        client: &ClientInfo,
        filter: &TopicFilter,
        options: SubscriptionOptions,
    ) -> SubscribeVerdict {
        let Ok(rewritten) = TopicFilter::parse(&at_home(client, filter.as_str())) else {
            return SubscribeVerdict::Refuse(ReasonCode::TopicFilterInvalid);
        };
        let allowed = user(client) == "admin"
            || rewritten.filter().starts_with("news/")
            || rewritten.filter().starts_with(&home(client));
        match allowed {
            true => SubscribeVerdict::Rewrite(rewritten, options),
            false => SubscribeVerdict::Refuse(ReasonCode::NotAuthorized),
        }
    }
}

fn user(client: &ClientInfo) -> &str {
    client.username.as_deref().unwrap_or_default()
}

fn home(client: &ClientInfo) -> String {
    format!("home/{}/", user(client))
}

/// `~/door` of ann is `home/ann/door`.
fn at_home(client: &ClientInfo, topic: &str) -> String {
    match topic.strip_prefix("~/") {
        Some(rest) => home(client) + rest,
        None => topic.to_owned(),
    }
}
