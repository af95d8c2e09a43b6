//! What the service manager is told (`sd_notify(3)`), and the end of a process that cannot go on.
//!
//! Only the daemon's loop pings the watchdog: an agent whose other threads go on while its loop stands
//! still is killed and started again, and forwarding goes on meanwhile.

use std::{
    io::Write as _,
    panic, process,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;
use tokio::time::Interval;

use super::{Daemon, at, ticks};
use crate::recording;

/// Who started us, as far as it wants to know; nobody, if there is no service manager.
pub(super) struct Service {
    /// Between two pings: half of what the service manager waits for.
    pings: Option<Interval>,
    pinged: Instant,
    /// The last status line.
    status: String,
}

impl Service {
    /// In a tokio runtime.
    pub(super) fn new() -> Self {
        let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        Self {
            pings: limit.map(|limit| ticks((limit / 2).max(Duration::from_millis(1)))),
            pinged: Instant::now(),
            status: String::new(),
        }
    }

    /// Returns when a ping is due; never without a watchdog. Cancel-safe.
    pub(super) async fn ping_due(&mut self) {
        match &mut self.pings {
            Some(pings) => drop(pings.tick().await),
            None => at(None).await,
        }
    }

    pub(super) fn ping(&mut self) {
        tell(&NotifyState::Watchdog);
        self.pinged = Instant::now();
    }

    /// Between two parts of a turn that may take long: one that gets on is no loop that stands still.
    pub(super) fn gets_on(&mut self) {
        let due = |pings: &Interval| self.pinged.elapsed() >= pings.period();
        if self.pings.as_ref().is_some_and(due) {
            self.ping();
        }
    }

    pub(super) fn ready(&self) {
        tell(&NotifyState::Ready);
    }

    pub(super) fn stopping(&self) {
        tell(&NotifyState::Stopping);
    }

    /// One line for `systemctl status`.
    fn status(&mut self, line: String) {
        if self.status != line {
            tell(&NotifyState::Status(&line));
            self.status = line;
        }
    }
}

impl Daemon {
    /// Once a second.
    pub(super) fn tell_status(&mut self) {
        let reasons = self.unready();
        let line = match reasons.split_first() {
            None => format!("{}, ready", self.state()),
            Some((first, [])) => format!("{}, not ready: {first}", self.state()),
            Some((first, more)) => {
                format!(
                    "{}, not ready: {first} (and {} more reasons: /readyz)",
                    self.state(),
                    more.len()
                )
            }
        };
        self.service.status(line);
    }
}

/// Without a service manager there is nobody to tell.
fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!("the service manager cannot be told: {error}");
    }
}

/// From now on a panic in any thread ends the process, with what it was about in the log: what comes
/// after it was foreseen by nobody. Nothing is cleaned up or told to peers, as in a crash, so the
/// datapath stays as it is for the next run.
pub(super) fn end_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        tracing::error!("{info}; the agent ends, and forwarding goes on");
        report(info);
        let _ = std::io::stderr().flush();
        recording::finish_before_exit();
        process::exit(1);
    }));
}

/// For the labs, which have no other way to make a sound agent panic.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is the purpose")]
pub(super) fn panic_on_request() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut request = signal(SignalKind::user_defined2())?;
    tokio::spawn(async move {
        request.recv().await;
        panic!("SIGUSR2 asks for a panic");
    });
    Ok(())
}
