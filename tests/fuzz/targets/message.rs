//! `cargo xtask fuzz --target message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vtep_fuzz::message::check(data));
