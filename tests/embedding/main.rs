//! The library as an embedding program uses it: one file for each part of the API.
//!
//! The clients are those of the conformance tests, with a codec of their own; the broker runs inside the test process.

// Modules that test binaries share are used in part.
#![allow(dead_code, unreachable_pub, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod connect_hooks;
mod events;
mod examples;
mod failures;
mod forward_hooks;
mod handle;
mod harness;
mod inspect;
mod listeners;
mod publish;
mod publish_hooks;
mod shutdown;
mod subscribe_hooks;
mod subscription;
