//! The subcommands of `broker`, one module each.

pub(crate) mod bench;
pub(crate) mod ctl;
pub(crate) mod passwd;
