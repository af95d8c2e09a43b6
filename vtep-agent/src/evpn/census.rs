//! How many there are of each kind, kept up to date: whoever asks does so often, and the tables are large.

use super::BindingOrigin;

/// MACs that have an owner, or bindings in force, by how they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// From frames.
    pub learned: u64,
    /// By the operator or an orchestrator.
    pub declared: u64,
    /// From BGP.
    pub remote: u64,
}

impl Census {
    /// Notes that one is known in another way than before; `None`: not at all.
    pub(super) fn change(&mut self, was: Option<BindingOrigin>, is: Option<BindingOrigin>) {
        if was == is {
            return;
        }
        if let Some(origin) = was {
            *self.of(origin) -= 1;
        }
        if let Some(origin) = is {
            *self.of(origin) += 1;
        }
    }

    fn of(&mut self, origin: BindingOrigin) -> &mut u64 {
        match origin {
            BindingOrigin::Learned => &mut self.learned,
            BindingOrigin::Declared => &mut self.declared,
            BindingOrigin::Remote => &mut self.remote,
        }
    }
}
