//! From received bytes to events of the state machine, and what is noted of errors on the way.

use super::peer::Peer;
use crate::bgp::{fsm::Event, wire};

/// Messages decoded before anything else gets its turn.
pub(super) const BATCH: usize = 64;

impl Peer {
    /// Decodes some of what was received.
    pub(super) fn decode(&mut self) {
        for _ in 0..BATCH {
            let frame = self.connections.iter_mut().find_map(|connection| {
                let max_len = self.fsm.max_received(connection.id);
                wire::next_frame(&mut connection.received, max_len)
                    .transpose()
                    .map(|frame| (connection.id, frame))
            });
            let Some((id, frame)) = frame else {
                self.undecoded = false;
                return;
            };
            let decoded = frame.and_then(|frame| {
                self.status.received.count(frame.kind());
                self.status.bytes_received += frame.bytes().len() as u64;
                let decoded = wire::decode(&frame, self.fsm.context(id));
                self.log_faults(&frame, &decoded);
                decoded
            });
            match decoded {
                Ok(decoded) => self.handle(Event::Message(id, decoded.message)),
                Err(notification) => self.handle(Event::Malformed(id, notification)),
            }
        }
    }

    /// RFC 7606 §6 asks for the whole message of every malformed UPDATE.
    fn log_faults(
        &mut self,
        frame: &wire::Frame,
        decoded: &Result<wire::Decoded, wire::Notification>,
    ) {
        let peer = &self.status.name;
        match decoded {
            Ok(decoded) => {
                for fault in &decoded.faults {
                    *self.status.update_errors.entry(fault.outcome).or_default() += 1;
                    tracing::warn!(%peer, %fault, "malformed UPDATE");
                    let summary = format!("malformed UPDATE: {}, {}", fault.cause, fault.outcome);
                    self.last_fault = Some(summary);
                }
                if !decoded.faults.is_empty() {
                    tracing::warn!(%peer, message = %hex(frame.bytes()), "malformed UPDATE");
                }
            }
            Err(notification) => tracing::warn!(
                %peer,
                error = %notification,
                message = %hex(frame.bytes()),
                "malformed message"
            ),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
