//! A script of what a few clients and the program do with one broker.
#![no_main]

#[path = "../checks/session.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::check(data);
});
