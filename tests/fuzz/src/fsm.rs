//! Everything that a peer, the network, an operator and the clock can do to the session state
//! machine, in any order.
//!
//! - At most one session is Established; a peer never has more than two connections.
//! - No message is sent outside its state: OPEN first and once, KEEPALIVE after the peer's OPEN,
//!   nothing after a NOTIFICATION but the end of the connection.
//! - Every deadline lies in the future, and one tick does all that is due.
//! - Hold and keepalive timers run with the negotiated time, neither early nor late.
//! - A speaker that was started always has a plan.

mod model;
mod script;

use arbitrary::Unstructured;

use self::{model::Model, script::Setup};

/// Events of one run: more would find nothing that fewer don't.
const STEPS: usize = 200;

/// See the module.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(setup) = input.arbitrary::<Setup>() else {
        return;
    };
    let mut model = Model::new(&setup);
    for _ in 0..STEPS {
        if input.is_empty() {
            return;
        }
        let Ok(step) = input.arbitrary() else { return };
        model.take(step);
    }
}
