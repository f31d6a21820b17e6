use mqtt_broker::{Broker, Config, NewMessage, QoS};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::default();
    config.max_connections = 1_000;
    let broker = Broker::start(config);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on mqtt://{}", listener.local_addr()?);
    let accepting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.serve(listener).await }
    });

    let greeting = NewMessage::new("greetings", "hello")?.qos(QoS::AtLeastOnce).retain(true);
    broker.publish(greeting).await?;

    // A real program would wait here for what ends it, such as tokio::signal::ctrl_c().
    broker.shutdown().await;
    accepting.await??;
    Ok(())
}
