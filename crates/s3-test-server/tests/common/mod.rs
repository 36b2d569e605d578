//! A server over a temporary folder and a store over the server.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use siltstone_s3_test_server::TestServer;
use siltstone_storage::{ObjectBlobs, S3Settings};

pub(crate) struct Bucket {
    pub(crate) server: TestServer,
    // Dropped after the server.
    _folder: tempfile::TempDir,
}

impl Bucket {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = TestServer::start(folder.path()).unwrap();
        Self {
            server,
            _folder: folder,
        }
    }

    pub(crate) fn settings(&self) -> S3Settings {
        S3Settings::new(
            self.server.bucket(),
            self.server.access_key(),
            self.server.secret_key(),
        )
        .endpoint(&self.server.endpoint())
    }

    /// A client of its own, with its own connections, below `prefix`.
    pub(crate) fn store(&self, prefix: &str) -> ObjectBlobs {
        ObjectBlobs::s3(self.settings(), prefix).unwrap()
    }
}
