//! A broker inside a program, which takes part in the traffic without a connection of its own.
//!
//! Run it, then talk to it with any MQTT client:
//!
//! ```text
//! cargo run --example embedded
//! mosquitto_sub -t 'fahrenheit/#' -v
//! mosquitto_pub -t celsius/kitchen -m 20
//! ```

use std::error::Error;
use std::future::Future;

use mqtt_broker::{Broker, Config, NewMessage, QoS};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:1883").await?;
    println!("listening on mqtt://{}; end with Ctrl-C", listener.local_addr()?);
    run(listener, async { drop(tokio::signal::ctrl_c().await) }).await
}

/// Serves until `stop` is done.
pub(crate) async fn run(listener: TcpListener, stop: impl Future<Output = ()>) -> Result<(), Box<dyn Error>> {
    // Every limit has a default; see `Config`.
    let mut config = Config::default();
    config.max_packet_size = 64 * 1024;

    // The broker runs on this tokio runtime. The handle is cheap to clone, and there may be several brokers.
    let broker = Broker::start(config);
    let serving = tokio::spawn({
        let broker = broker.clone();
        async move { broker.serve(listener).await }
    });

    // A retained message, for every client that comes later.
    broker
        .publish(NewMessage::new("status", "ready")?.qos(QoS::AtLeastOnce).retain(true))
        .await?;

    // A subscription of the program is a bounded stream.
    let mut measurements = broker.subscribe("celsius/+", QoS::AtLeastOnce)?;
    let converting = tokio::spawn({
        let broker = broker.clone();
        async move {
            // `None` comes when the broker has been shut down.
            while let Some(received) = measurements.next().await {
                let room = received.message.topic().trim_start_matches("celsius/");
                if let Some(fahrenheit) = to_fahrenheit(received.message.payload()) {
                    let message = NewMessage::new(format!("fahrenheit/{room}"), fahrenheit)?;
                    // Waits while a subscriber does not keep up.
                    broker.publish(message.qos(received.qos)).await?;
                }
            }
            Ok::<(), Box<dyn Error + Send + Sync>>(())
        }
    });

    stop.await;

    // Clients are told, what is queued for them is sent, and the two tasks end.
    broker.shutdown().await;
    serving.await??;
    converting.await?.map_err(|error| error.to_string())?;
    Ok(())
}

/// The payload is any bytes that a client has sent: nothing is certain about it.
fn to_fahrenheit(celsius: &[u8]) -> Option<String> {
    let celsius: f64 = std::str::from_utf8(celsius).ok()?.trim().parse().ok()?;
    Some(format!("{:.1}", celsius * 1.8 + 32.0))
}
