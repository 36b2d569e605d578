//! Deletes what we pushed and nobody can name any more: archives that no replica's newest meta names,
//! and metas of ours that a newer one has overtaken. Both stay for a grace, for those who read an older
//! listing. Nobody deletes what another replica pushed, but for those that were [retired](super::retire).

use super::meta::meta_name;
use super::run::Run;
use crate::error::Result;
use crate::store::{CarId, car_name};
use siltstone_storage::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

impl Run<'_> {
    /// Deletes what is due.
    pub(super) fn clean(&mut self) -> Result<()> {
        let now = self.core.store.env.clock.now();
        let grace = self.at.remote.grace;
        let old = self.known.old.iter();
        let due: Vec<u64> = old
            .filter(|(_, since)| now.since(**since) >= grace)
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.blobs.delete(&meta_name(&self.replica, number))?;
            self.known.old.remove(&number);
        }
        if self.unnamed(now, grace).is_empty() || self.somebody_returns()? {
            return Ok(());
        }
        // Somebody may name them since; who named them a grace ago has published by now.
        self.read_newest()?;
        for car in self.unnamed(now, grace) {
            self.check_attached()?;
            self.blobs.delete(&car_name(&car))?;
            self.note.own.remove(&car);
            if let Some(bytes) = self.listed.remove(&car) {
                self.report.deleted_cars += 1;
                self.report.deleted_bytes += bytes;
            }
        }
        Ok(())
    }

    /// The archives of ours that nobody has named for a grace.
    fn unnamed(&mut self, now: Timestamp, grace: Duration) -> Vec<CarId> {
        let own = self.known.published.as_ref();
        let Some(own) = own.filter(|_| !self.blind) else {
            return Vec::new();
        };
        let mut named: BTreeSet<CarId> = own.cars.iter().map(|car| car.id()).collect();
        named.extend(self.named_by_others().into_keys());
        let mut gone = Vec::new();
        for (car, unnamed) in &mut self.note.own {
            if named.contains(car) {
                *unnamed = None;
                continue;
            }
            let since = *unnamed.get_or_insert(now);
            if now.since(since) >= grace {
                gone.push(*car);
            }
        }
        gone
    }
}
