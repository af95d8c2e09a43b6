//! `cargo xtask fuzz --target fsm`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vtep_fuzz::fsm::check(data));
