//! What systemd is told: that the daemon is ready, stops, and still lives. Nothing where nobody asked to be told.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use sd_notify::NotifyState;

pub(crate) fn tell_ready() {
    tell(&[NotifyState::Ready]);
}

pub(crate) fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says again and again that the daemon lives, from the runtime that answers requests: when that is stuck, so is this.
pub(crate) fn keep_alive() -> Pin<Box<dyn Future<Output = Infallible>>> {
    let mut patience_us = 0;
    if !sd_notify::watchdog_enabled(false, &mut patience_us) {
        return Box::pin(std::future::pending());
    }
    // Twice within what it waits, as its manual advises.
    let mut interval = tokio::time::interval(Duration::from_micros((patience_us / 2).max(1)));
    Box::pin(async move {
        loop {
            interval.tick().await;
            tell(&[NotifyState::Watchdog]);
        }
    })
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
