//! `cargo xtask fuzz --target frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vtep_fuzz::frame::check(data));
