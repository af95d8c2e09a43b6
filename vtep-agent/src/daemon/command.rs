//! What operators and orchestrators ask for.

use std::time::Instant;

use serde_json::Value;

use super::Daemon;
use crate::{
    control::{Answer, Call, Request},
    core::Command,
    tcp_ao,
};

impl Daemon {
    /// The caller may have gone; what it wanted is done all the same.
    pub(super) fn take_call(&mut self, call: Call) {
        match call {
            Call::Request(request, answer) => drop(answer.send(self.answer(request))),
            Call::Piece(rows, answer) => {
                drop(answer.send(self.core.piece(&rows, Instant::now())));
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<Answer, String> {
        let done = |()| Answer::Whole(Value::Null);
        match request {
            Request::Show(table, bd) => self.show(table, bd.as_ref()),
            Request::ShowRoutes(family) => self.show_routes(family),
            Request::Trace(request) => self.start_trace(request),
            Request::ClearCounters => self.clear_counters().map(done),
            Request::Reload => self.reload().map(done),
            Request::Change(command) => self.change(command).map(done),
        }
    }

    pub(super) fn reload(&mut self) -> Result<(), String> {
        let (config, warnings) = self.source.load().map_err(|error| error.to_string())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        tcp_ao::check_kernel(&config.bgp).map_err(|error| error.to_string())?;
        self.change(Command::Reload(Box::new(config)))
    }

    /// Carries a command out; a device that refuses an `attach` undoes it.
    fn change(&mut self, command: Command) -> Result<(), String> {
        let attaching = match &command {
            Command::Attach(name, _) => Some(name.clone()),
            _ => None,
        };
        // What a reload applies is in its file.
        let saved = !matches!(command, Command::Reload(_));
        let outputs = self
            .core
            .command(command, Instant::now())
            .map_err(|error| error.to_string())?;
        self.outputs.extend(outputs);
        self.settle();
        let refusal = attaching.and_then(|name| {
            let error = self.devices.uplink_error(&name)?.to_owned();
            Some((name, error))
        });
        let Some((name, error)) = refusal else {
            return match &self.unsaved {
                Some((_, error)) if saved => Err(format!(
                    "done, but it will not survive a restart of the agent: {error}"
                )),
                _ => Ok(()),
            };
        };
        match self.core.command(Command::Detach(name), Instant::now()) {
            Ok(outputs) => self.outputs.extend(outputs),
            Err(undo) => tracing::error!("cannot undo the attachment: {undo}"),
        }
        self.settle();
        Err(error)
    }
}
