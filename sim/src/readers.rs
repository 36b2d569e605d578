//! A reader in a process of its own, over the same bytes; it meets no faults of its own.

use crate::check::Checked;
use crate::life::options;
use crate::reads::everything;
use crate::world::World;
use siltstone_kv::Reader;
use siltstone_storage::{Clock, Env};
use std::sync::Arc;
use std::time::Duration;

/// How long a reader's pin holds, as databases are opened by default.
const LEASE: Duration = Duration::from_secs(60);

impl World {
    /// The reader, opened when there is none.
    pub(crate) fn reader(&mut self) -> Result<Reader, String> {
        if let Some(reader) = &self.reader {
            return Ok(reader.clone());
        }
        let (env, _) = Env::simulated(Arc::new(self.mem.clone()), self.rng.u64(..));
        let env = Env {
            clock: self.clock.clone(),
            ..env
        };
        self.note("open a reader".into());
        self.reader_seen = self.clock.elapsed();
        let reader = Reader::open(env, options()).map_err(|error| format!("reader: {error}"))?;
        self.reader = Some(reader.clone());
        Ok(reader)
    }

    pub(crate) fn read_as_reader(&mut self) -> Checked {
        let reader = self.reader()?;
        if self.rng.bool() {
            self.note("refresh the reader".into());
            let head = reader
                .refresh()
                .map_err(|error| format!("refresh: {error}"))?;
            self.reader_seen = self.clock.elapsed();
            if head.0 < self.durable || head.0 > self.issued {
                return Err(format!(
                    "the reader is at {head}, {} durable, {} issued",
                    self.durable, self.issued
                ));
            }
        }
        let commit = reader.head().0;
        let range = everything(self.pick_order());
        let fault = self.fault.take();
        let checked =
            self.check_range(&reader.default_keyspace(), &"default".into(), commit, range);
        self.fault = fault;
        checked.or_else(|what| {
            let lapsed = self.has_lapsed(self.reader_seen);
            match what.contains("must refresh") && lapsed {
                true => self.refresh_lapsed(&reader),
                false => Err(format!("reader, lapsed {lapsed}: {what}")),
            }
        })
    }

    /// What a reader stood on has gone, as its lease lapsed: it must refresh, and can.
    fn refresh_lapsed(&mut self, reader: &Reader) -> Checked {
        self.reader_seen = self.clock.elapsed();
        match reader.refresh() {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("refresh: {error}")),
        }
    }

    /// True when a lease that was renewed at `moment`, or up to a third of it before, may be over:
    /// it ends by the wall clock.
    pub(crate) fn has_lapsed(&self, moment: Duration) -> bool {
        let renewed = moment.saturating_sub(LEASE / 3);
        self.clock_set.is_some_and(|at| at >= renewed) || self.clock.elapsed() > renewed + LEASE
    }
}
