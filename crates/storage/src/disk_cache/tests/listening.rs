//! Hears the warnings of this process.

use parking_lot::Mutex;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

/// The warnings of this process that name `folder`.
pub(super) fn warnings(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let heard = listen().0.lock();
    heard
        .iter()
        .filter(|line| line.contains(&folder))
        .cloned()
        .collect()
}

#[derive(Debug, Default)]
pub(super) struct Ears(Mutex<Vec<String>>);

/// Listens to all threads of the process, from the first call on.
pub(super) fn listen() -> &'static Ears {
    static EARS: OnceLock<&'static Ears> = OnceLock::new();
    EARS.get_or_init(|| {
        let ears: &'static Ears = Box::leak(Box::default());
        tracing::subscriber::set_global_default(ears).unwrap();
        ears
    })
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl tracing::Subscriber for &'static Ears {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN && metadata.target().starts_with("siltstone")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
