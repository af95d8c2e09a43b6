//! Headers and decisions over packet bytes.
