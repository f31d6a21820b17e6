//! From a Topic Name to its subscribers.
