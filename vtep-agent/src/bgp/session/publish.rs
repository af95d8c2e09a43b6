//! What a peer's task shows of itself.

use super::peer::Peer;

impl Peer {
    /// Logs what the host's counters may mean, once until the session is up again.
    pub(super) fn suspect(&mut self) {
        let hint = self.suspicion.hint().filter(|_| !self.suspected);
        if let Some(hint) = hint {
            self.suspected = true;
            tracing::warn!(peer = %self.status.name, %hint, "BGP session is not up");
        }
    }

    /// Brings what can be seen of the peer up to date.
    pub(super) fn publish(&mut self) {
        self.status.state = self.fsm.state();
        let established = self.fsm.established();
        self.status.established_since = established.map(|(_, since)| since);
        self.status.hold_time = established.map(|(negotiated, _)| negotiated.hold_time);
        let cause = || self.fsm.last_error().map(ToString::to_string);
        let obstacle = self.obstacle.clone().or_else(|| self.last_fault.clone());
        let hint = self.session.is_none().then(|| self.suspicion.hint());
        let error = match (obstacle.or_else(cause), hint.flatten()) {
            (Some(error), Some(hint)) => Some(format!("{error}; {hint}")),
            (error, hint) => error.or(hint),
        };
        if let Some(error) = error {
            self.status.last_error = Some(error);
        } else if established.is_some() {
            self.status.last_error = None;
        }
        self.shared.publish(&self.status);
    }
}
