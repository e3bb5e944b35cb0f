//! See `unisono::fuzzing`: what is done and how the input is written stands there.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| unisono::fuzzing::proxy(input));
