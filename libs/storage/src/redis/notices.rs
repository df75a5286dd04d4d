//! Hearing at once that a partition has moved: the script that moves it says so on a channel.
//!
//! A notice only wakes; how far a consumer has come is always asked. So a lost notice costs a wait of [`SLOW_POLL`], and
//! of [`FAST_POLL`] while there is no subscription.

use super::keys::Base;
use super::link::builder;
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::config::Config;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

const FAST_POLL: Duration = Duration::from_millis(20);
const SLOW_POLL: Duration = Duration::from_millis(250);
const HANDSHAKE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Notices(Arc<Shared>);

struct Shared {
    moved: Vec<Notify>,
    is_subscribed: AtomicBool,
    /// Nobody waits any more.
    ended: Notify,
}

impl Notices {
    pub(super) fn start(config: Config, bases: &[Base]) -> Self {
        let moved = bases.iter().map(|_| Notify::new()).collect();
        let shared = Arc::new(Shared { moved, is_subscribed: AtomicBool::new(false), ended: Notify::new() });
        let channels = bases.iter().map(|base| String::from_utf8_lossy(&base.text).into_owned() + "progress");
        tokio::spawn(follow(Config { fail_fast: true, ..config }, channels.collect(), shared.clone()));
        Self(shared)
    }

    pub(super) fn moved(&self, partition: u16) -> &Notify {
        &self.0.moved[usize::from(partition)]
    }

    /// How long to wait for a notice before asking anyway.
    pub(super) fn poll(&self) -> Duration {
        if self.0.is_subscribed.load(Ordering::Relaxed) { SLOW_POLL } else { FAST_POLL }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.0.ended.notify_one();
    }
}

/// Subscribes, and begins anew whenever the connection ends.
async fn follow(config: Config, channels: Vec<String>, shared: Arc<Shared>) {
    let places: HashMap<_, _> = channels.iter().cloned().zip(0..).collect();
    loop {
        let Ok(client) = builder(&config, HANDSHAKE).build_subscriber_client() else { return };
        let is_ended = tokio::select! {
            () = listen(&client, &channels, &places, &shared) => false,
            () = shared.ended.notified() => true,
        };
        shared.is_subscribed.store(false, Ordering::Relaxed);
        shared.moved.iter().for_each(Notify::notify_waiters);
        // It is given up either way.
        drop(tokio::time::timeout(HANDSHAKE, client.quit()).await);
        if is_ended {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns when the connection ends.
async fn listen(client: &SubscriberClient, channels: &[String], places: &HashMap<String, usize>, shared: &Shared) {
    let mut messages = client.message_rx();
    let Ok(connection) = client.init().await else { return };
    for channel in channels {
        // One by one: in a cluster a command names channels of one slot.
        let subscribed = tokio::time::timeout(HANDSHAKE, client.ssubscribe(channel.as_str())).await;
        if !matches!(subscribed, Ok(Ok(()))) {
            return;
        }
    }
    shared.is_subscribed.store(true, Ordering::Relaxed);
    let mut connection = connection;
    loop {
        tokio::select! {
            _ = &mut connection => return,
            message = messages.recv() => match message {
                Ok(message) => {
                    if let Some(&place) = places.get(&*message.channel) {
                        shared.moved[place].notify_waiters();
                    }
                }
                // Some were dropped unread: they may have been anyone's.
                Err(_) => shared.moved.iter().for_each(Notify::notify_waiters),
            }
        }
    }
}
