//! Serves a folder as an S3 bucket on loopback until stopped: for trying the command line against a
//! bucket without an account anywhere. Not for data that matters.

use clap::Parser;
use siltstone_s3_test_server::TestServer;
use std::path::PathBuf;

/// Serve a folder as an S3 bucket on 127.0.0.1.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// The folder to serve.
    folder: PathBuf,
    /// The port; 0 picks a free one.
    #[arg(long, default_value_t = 9000)]
    port: u16,
}

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let server = TestServer::start_on(&options.folder, options.port)?;
    println!("export AWS_ENDPOINT_URL={}", server.endpoint());
    println!("export AWS_ACCESS_KEY_ID={}", server.access_key());
    println!("export AWS_SECRET_ACCESS_KEY={}", server.secret_key());
    println!("# s3://{}", server.bucket());
    loop {
        std::thread::park();
    }
}
