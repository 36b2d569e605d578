//! What a reader sees, in one number: every row counted and summed, in order.

use crate::document::Record;
use crate::failure::Result;
use siltstone::Read;
use xxhash_rust::xxh3::Xxh3;

/// All answers of a keyspace at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Rows.
    pub(crate) rows: u64,
    /// XXH3 of all keys and values with their lengths, in order.
    pub(crate) checksum: u64,
    /// The values of the cities that are followed.
    pub(crate) samples: Vec<Option<Vec<u8>>>,
}

impl Answers {
    /// Asks `read` for everything, and for `samples` one by one.
    pub(crate) fn of(read: &impl Read, samples: &[Vec<u8>]) -> Result<Self> {
        let mut sum = Sum::default();
        let mut scan = read.scan::<&str>(..)?;
        while scan.next() {
            sum.add(scan.key(), scan.value());
        }
        if let Some(error) = scan.error() {
            return Err(error.clone().into());
        }
        let mut values = Vec::new();
        for key in samples {
            values.push(read.get(key)?.map(|value| value.to_vec()));
        }
        Ok(sum.answers(values))
    }

    /// What the answers must be when the database holds just `records`.
    pub(crate) fn expected<'a>(
        records: impl Iterator<Item = &'a Record>,
        samples: &[Vec<u8>],
    ) -> Self {
        let mut sum = Sum::default();
        let mut values = vec![None; samples.len()];
        for (key, value) in records {
            sum.add(key, value);
            if let Some(at) = samples.iter().position(|sample| sample == key) {
                values[at] = Some(value.clone());
            }
        }
        sum.answers(values)
    }
}

#[derive(Default)]
struct Sum {
    rows: u64,
    hash: Xxh3,
}

impl Sum {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        for bytes in [key, value] {
            self.hash.update(&(bytes.len() as u64).to_le_bytes());
            self.hash.update(bytes);
        }
    }

    fn answers(self, samples: Vec<Option<Vec<u8>>>) -> Answers {
        Answers {
            rows: self.rows,
            checksum: self.hash.digest(),
            samples,
        }
    }
}
