//! How a process takes part in the bus: by its configuration.

use super::grpc::{DecisionHub, Listening, Spoke};
use crate::{Telemetry, TelemetryConfig, TelemetryError};
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// An idle connection is asked this often whether it still lives: nobody else would notice a hub that hangs.
const KEEPALIVE: Duration = Duration::from_secs(5);

impl Telemetry {
    /// Joins the bus that the configuration names. Gives the hub, where this process hosts it, to be served and closed.
    /// Call it inside a runtime.
    pub fn join_bus(&self, config: &TelemetryConfig) -> Result<Option<DecisionHub>, TelemetryError> {
        match config.decision_bus.as_deref() {
            None => Ok(None),
            Some("hub") => {
                let hub = DecisionHub::new(self.decision_sink());
                self.attach_bus(Arc::new(hub.clone()));
                Ok(Some(hub))
            }
            Some(address) => {
                let channel = channel(address).ok_or_else(|| TelemetryError::Bus(address.to_owned()))?;
                let listening = if self.info().service == "edge" {
                    Listening::No
                } else {
                    Listening::To { origin: self.bus_origin(), sink: self.decision_sink() }
                };
                self.attach_bus(Arc::new(Spoke::connect(channel, listening)));
                Ok(None)
            }
        }
    }
}

fn channel(address: &str) -> Option<Channel> {
    let uri = match address.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => format!("unix://{path}"),
        None if address.starts_with("http://") => address.to_owned(),
        _ => return None,
    };
    let endpoint = Endpoint::from_shared(uri).ok()?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    Some(endpoint.connect_lazy())
}
