//! Prints what happens in a broker.
//!
//! ```text
//! cargo run --example events
//! mosquitto_sub -t '#' -i listener
//! mosquitto_pub -t greeting -m hello -q 1
//! ```

use std::error::Error;
use std::future::Future;

use mqtt_broker::{Broker, Config, Event, NextEvent};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:1883").await?;
    println!("listening on mqtt://{}; end with Ctrl-C", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    run(listener, stop, |line| println!("{line}")).await
}

/// Serves until `stop` is done, and passes a line for each event to `print`.
pub(crate) async fn run(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    print: impl Fn(String) + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let mut config = Config::default();
    // The broker's own messages under `$SYS` are publications too, and would fill the screen.
    config.sys_interval = None;
    let broker = Broker::start(config);

    // Before anybody can connect, so that nothing is missed.
    let mut events = broker.events();
    let printing = tokio::spawn(async move {
        while let Some(next) = events.next().await {
            match next {
                // The last event of a broker.
                NextEvent::Event(Event::Closed) => return print("closed".into()),
                NextEvent::Event(event) => print(line(&event)),
                // The stream is bounded: who falls behind is told so, and the broker does not wait.
                NextEvent::Missed(count) => print(format!("{count} events missed")),
            }
        }
    });

    tokio::select! {
        result = broker.serve(listener) => result?,
        () = stop => broker.shutdown().await,
    }
    printing.await?;
    Ok(())
}

fn line(event: &Event) -> String {
    match event {
        Event::Connected(client) => format!(
            "{} connected from {} with {}",
            client.client_id, client.peer, client.version
        ),
        Event::Ready(client) => format!("{} is ready", client.client_id),
        Event::Disconnected { client, reason } => format!("{} disconnected: {reason}", client.client_id),
        Event::Error {
            client: Some(client),
            detail,
            ..
        } => format!("{} is closed: {detail}", client.client_id),
        Event::Error {
            client: None, detail, ..
        } => format!("a connection is refused: {detail}"),
        Event::KeepAliveTimeout(client) => format!("{} has been silent for too long", client.client_id),
        Event::Published { client, message } => {
            let publisher = client.as_ref().map_or("the program", |client| &*client.client_id);
            format!(
                "{publisher} published {} bytes to {}",
                message.payload().len(),
                message.topic()
            )
        }
        Event::Acknowledged { client, message } => format!("{} acknowledged {}", client.client_id, message.topic()),
        Event::Ping(client) => format!("{} pings", client.client_id),
        Event::Subscribed { client, filters } => {
            let filters: Vec<&str> = filters.iter().map(|filter| filter.as_str()).collect();
            format!("{} subscribed to {}", client.client_id, filters.join(", "))
        }
        Event::Unsubscribed { client, filters } => {
            format!("{} unsubscribed from {}", client.client_id, filters.join(", "))
        }
        // Later versions of the broker may have more.
        other => format!("{other:?}"),
    }
}
