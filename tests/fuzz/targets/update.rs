//! `cargo xtask fuzz --target update`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vtep_fuzz::update::check(data));
