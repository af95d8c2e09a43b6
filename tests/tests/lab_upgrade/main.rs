//! Agents that end in every way, and come back as themselves or as another version, while the rest of
//! the fabric, FRR behind a reflector among it, hears nothing of that.

mod clock;
mod fabric;
mod layout;
mod mixed;
mod stop;
