//! The front door of Siltstone.
