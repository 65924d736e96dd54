//! RMQTT as its library makes it, without plugins.
//!
//! `rmqtt PORT` serves loopback on one worker; its limits are raised so that none of them is what is measured.

use std::num::NonZeroU16;

use rmqtt::context::ServerContext;
use rmqtt::net::{Builder, Result};
use rmqtt::server::MqttServer;

#[tokio::main(worker_threads = 1)]
async fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(1883);
    let context = ServerContext::new().mqtt_max_sessions(0).busy_check_enable(false).build().await;
    let listener = Builder::new()
        .name("plain")
        .laddr(([127, 0, 0, 1], port).into())
        .allow_anonymous(true)
        .nodelay(true)
        .max_connections(100_000)
        .max_handshaking_limit(1_000)
        .max_inflight(NonZeroU16::MAX)
        .max_mqueue_len(100_000)
        .bind()?
        .tcp()?;
    MqttServer::new(context).listener(listener).build().run().await
}
