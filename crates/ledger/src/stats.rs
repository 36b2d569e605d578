//! A ledger in figures.

use crate::ledger::Ledger;

/// The state of an open ledger in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events over its life.
    pub commits: u64,
    /// Compactions and prunes over its life.
    pub compactions: u64,
    /// Live CARs.
    pub cars: usize,
    /// Their bytes.
    pub car_bytes: u64,
    /// Live CARs that are in a remote only.
    pub away_cars: usize,
    /// Their bytes.
    pub away_bytes: u64,
    /// Replaced CARs that are still there, for a snapshot or until the next collection.
    pub replaced_cars: usize,
    /// Redirect files.
    pub redirect_files: usize,
    /// Old names that they resolve.
    pub redirects: u64,
    /// Edits that opening would have to read from the journal.
    pub journal_edits: u64,
    /// Journal files.
    pub journal_files: usize,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Open snapshots.
    pub snapshots: usize,
    /// Why the last background work failed, if it did.
    pub last_background_error: Option<String>,
}

impl Ledger {
    /// The ledger in figures.
    pub fn stats(&self) -> Stats {
        let core = self.core();
        let log = core.store.log.lock();
        let state = &log.state;
        let away = state.cars.live().iter();
        let away = away.filter(|car| core.store.cars.is_away(&car.id));
        Stats {
            commits: state.counters.commits,
            compactions: state.counters.compactions,
            cars: state.cars.live().len(),
            car_bytes: state.cars.live().iter().map(|car| car.meta.bytes).sum(),
            away_cars: away.clone().count(),
            away_bytes: away.map(|car| car.meta.bytes).sum(),
            replaced_cars: state
                .retired
                .keys()
                .filter(|id| !log.forgotten.contains(id))
                .count(),
            redirect_files: state.redirects.len(),
            redirects: state.redirects.iter().map(|file| file.entries).sum(),
            journal_edits: log.edits,
            journal_files: log.journals.len(),
            cache_bytes: core.store.cache.bytes(),
            snapshots: log.pins.count(),
            last_background_error: core.signals.last_error(),
        }
    }
}
