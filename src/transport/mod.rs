//! Byte streams that connections come over.

mod tcp;

pub(crate) use tcp::split;
