//! An S3 server for tests: a folder behind the S3 protocol, in this process, on a loopback port.
//!
//! It keeps what real object stores promise and small servers often break: of any number of racing
//! conditional puts for one key exactly one succeeds. And it breaks on demand, the way networks and
//! stores do: see [`Fault`] and [`Faults`].
//!
//! ```no_run
//! use siltstone_s3_test_server::{Fault, Rule, TestServer};
//! let folder = std::env::temp_dir();
//! let server = TestServer::start(&folder)?;
//! server.faults().inject(Rule::always(Fault::ErrorAfterCommit).method("PUT").times(1));
//! println!("{} {}", server.endpoint(), server.bucket());
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod faults;
mod serve;
mod server;
mod traffic;

pub use faults::{Fault, Faults, Rule};
pub use server::TestServer;
pub use traffic::{Tally, Traffic};
