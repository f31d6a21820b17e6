//! From a Topic Name to its subscribers.

pub mod filters;
pub mod retained;
