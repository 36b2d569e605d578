//! Looks for anomalies of transactions from outside: records what clients asked and what came back,
//! and has a checker (crate `adya`, after Elle, Kingsbury and Alvaro, VLDB 2020) look for cycles
//! that the isolation level forbids. What that checker cannot see, predicates and single operations,
//! is checked by code of our own. Every checker is shown histories that are wrong.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../common/mod.rs"]
mod common;
mod history;
mod interleaved;
mod linearizable;
mod planted;
mod predicates;
mod steps;
mod threads;
mod wing_gong;
