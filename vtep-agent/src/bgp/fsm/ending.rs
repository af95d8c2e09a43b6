//! How connections end, and what is tried next.

use std::time::{Duration, Instant};

use super::{Action, Cause, Cease, Fsm, Refusal, graceful};
use crate::bgp::wire::{Message, Notification};

impl Fsm {
    /// Ends a connection with a NOTIFICATION.
    pub(super) fn end(
        &mut self,
        index: usize,
        notification: Notification,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.say(index, notification.clone(), out);
        self.drop_connection(index, Cause::Sent(notification), now, out);
    }

    /// Ends a connection for the peer's OPEN.
    pub(super) fn refuse(
        &mut self,
        index: usize,
        refusal: Refusal,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        self.say(index, refusal.notification(), out);
        self.drop_connection(index, Cause::Refused(refusal), now, out);
    }

    /// A last word.
    pub(super) fn say(&self, index: usize, notification: Notification, out: &mut Vec<Action>) {
        let id = self.connections[index].id;
        out.push(Action::Send(id, Message::Notification(notification)));
        out.push(Action::Close(id));
    }

    /// Ends everything on purpose.
    pub(super) fn end_all(&mut self, cease: &Cease, now: Instant, out: &mut Vec<Action>) {
        while let Some(connection) = self.connections.first() {
            match cease.farewell(connection.graceful()) {
                Some(notification) => self.end(0, notification, now, out),
                None => {
                    out.push(Action::Close(connection.id));
                    self.drop_connection(0, Cause::Left, now, out);
                }
            }
        }
    }

    /// Ends the loser of a collision, which is no failure.
    pub(super) fn lose(&mut self, index: usize, out: &mut Vec<Action>) {
        let id = self.connections.remove(index).id;
        out.push(Action::Send(
            id,
            Message::Notification(Notification::COLLISION),
        ));
        out.push(Action::Close(id));
    }

    /// Forgets a connection, and starts over when it was the last.
    pub(super) fn drop_connection(
        &mut self,
        index: usize,
        cause: Cause,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let connection = self.connections.remove(index);
        let hold_idle = cause.idle_hold_time();
        if let Some(since) = connection.established_since() {
            self.backoff
                .established_for(now.saturating_duration_since(since));
            self.failure = None;
            self.down = Some(cause.clone());
            let graceful = connection.graceful();
            let retention = graceful.and_then(|graceful| graceful::retention(*graceful, &cause));
            out.push(Action::Down(cause, retention));
        } else {
            self.failure = Some(cause);
        }
        self.retry_unless_connected(hold_idle, now);
    }

    pub(super) fn retry_unless_connected(&mut self, hold_idle: Option<Duration>, now: Instant) {
        if self.started && self.connections.is_empty() && self.attempt.is_none() {
            self.schedule(hold_idle, now);
        }
    }

    pub(super) fn schedule(&mut self, hold_idle: Option<Duration>, now: Instant) {
        let delay = self.jitter.of(self.backoff.fail());
        let delay = delay.max(hold_idle.unwrap_or_default());
        self.retry = (!self.settings.passive).then(|| now + delay);
        self.idle_hold = hold_idle.map(|time| now + time);
    }

    pub(super) fn abort_connect(&mut self, out: &mut Vec<Action>) {
        if self.attempt.take().is_some() {
            out.push(Action::AbortConnect);
        }
    }
}
