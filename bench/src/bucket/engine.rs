//! What the workloads need of a database in a bucket.

use std::future::Future;

use crate::bucket::server::Place;
use crate::engine::Result;

/// A database under test. All calls are made from tasks on one runtime.
pub(crate) trait BucketEngine: Sized + Send + Sync + 'static {
    /// Opens the database below `prefix`, creating it when there is none.
    fn open(place: &Place, prefix: &str) -> impl Future<Output = Result<Self>> + Send;

    /// Writes one entry and returns once the bucket has it.
    fn put_durable(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Writes one entry without waiting for the bucket.
    fn put(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Returns once the bucket has every write so far, in its log or in tables.
    fn sync(&self) -> impl Future<Output = Result<()>> + Send;

    /// Returns once every write so far is in tables in the bucket.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Returns once background work has nothing left to do, as far as can be told.
    fn settle(&self) -> impl Future<Output = Result<()>> + Send;

    /// Whether the newest value of `key` is the entry's.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<bool>> + Send;

    /// Reads up to `limit` entries from `from` on and returns how many there were.
    fn scan(&self, from: &[u8], limit: usize) -> impl Future<Output = Result<usize>> + Send;

    /// Closes cleanly.
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}
