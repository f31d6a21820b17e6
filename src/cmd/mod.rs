//! The subcommands of `broker`, one module each.

pub(crate) mod acl;
mod aedes;
pub(crate) mod bench;
pub(crate) mod ctl;
pub(crate) mod healthcheck;
pub(crate) mod mosquitto;
pub(crate) mod mqtt;
pub(crate) mod passwd;
pub(crate) mod publish;
pub(crate) mod store;
pub(crate) mod subscribe;
