//! `siltstone flush`: memtables and log become tables.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, duration, names, plural};

pub(crate) fn run(session: &mut Session) -> Result<()> {
    let db = session.writer()?;
    let stats = db.flush()?;
    db.close()?;
    let note = match stats.tables.is_empty() {
        true => "nothing to flush: everything is in tables".to_string(),
        false => format!(
            "flushed {} into {}, {}, {} dropped, {}",
            plural(stats.entries, "entry", "entries"),
            plural(stats.tables.len() as u64, "table", "tables"),
            bytes(stats.bytes),
            plural(stats.dropped, "version", "versions"),
            duration(stats.latency),
        ),
    };
    session.out.done(note, || {
        Object::default()
            .field("tables", &names(&stats.tables))
            .field("entries", &stats.entries)
            .field("dropped", &stats.dropped)
            .field("bytes", &stats.bytes)
            .field("seconds", &stats.latency.as_secs_f64())
    })
}
