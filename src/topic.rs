//! Topic Names and Topic Filters (section 4.7).
