//! `siltstone flush`: memtables and log become tables.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, duration, plural};
use siltstone_storage::{Clock, SystemClock};

pub(crate) fn run(session: &mut Session) -> Result<()> {
    let clock = SystemClock::default();
    let db = session.writer()?;
    db.flush()?;
    // What opening found in the log may have been flushed in the background: it counts too.
    let totals = db.stats().totals;
    db.close()?;
    let took = clock.elapsed();
    let note = match totals.flushes {
        0 => "nothing to flush: everything is in tables".to_string(),
        flushes => format!(
            "flushed {} into {} of tables, {}",
            plural(flushes, "memtable", "memtables"),
            bytes(totals.flush_bytes),
            duration(took),
        ),
    };
    session.out.done(note, || {
        Object::default()
            .field("flushes", &totals.flushes)
            .field("bytes", &totals.flush_bytes)
            .field("seconds", &took.as_secs_f64())
    })
}
