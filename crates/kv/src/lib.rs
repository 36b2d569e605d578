//! Siltstone's key-value engine.
