//! Faults, chosen while the server runs: rules that say which requests go wrong, and how.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Answered 503 `SlowDown`; not carried out.
    Unavailable,
    /// The connection is reset; not carried out.
    Reset,
    /// Carried out, then the connection is reset.
    ResetAfterCommit,
    /// Carried out, then answered 500 `InternalError`.
    ErrorAfterCommit,
    /// Answered this much later.
    Delay(Duration),
}

/// Which requests a fault meets.
#[derive(Debug, Clone)]
pub struct Rule {
    fault: Fault,
    method: Option<String>,
    key_part: String,
    times: Option<u64>,
    percent: u64,
}

impl Rule {
    /// Meets every request until narrowed.
    pub fn always(fault: Fault) -> Self {
        Self {
            fault,
            method: None,
            key_part: String::new(),
            times: None,
            percent: 100,
        }
    }

    /// Only requests of this HTTP method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_ascii_uppercase());
        self
    }

    /// Only requests whose path and query contain this.
    #[must_use]
    pub fn key_contains(mut self, part: &str) -> Self {
        self.key_part = part.into();
        self
    }

    /// Only the first so many of the requests it would meet.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only so many of a hundred requests, drawn at random.
    #[must_use]
    pub fn percent(mut self, percent: u64) -> Self {
        self.percent = percent;
        self
    }

    fn meets(&self, method: &str, path: &str) -> bool {
        self.times != Some(0)
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && path.contains(&self.key_part)
            && fastrand::u64(0..100) < self.percent
    }
}

/// The handle on a server's faults. Clones are the same handle.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rules: Mutex<Vec<Rule>>,
    ignore_conditions: AtomicBool,
    refuse_bulk: AtomicBool,
    requests: AtomicU64,
    met: AtomicU64,
}

impl Faults {
    /// Adds a rule. A request meets the first rule that fits it.
    pub fn inject(&self, rule: Rule) {
        self.0.rules.lock().push(rule);
    }

    /// Takes all rules back, honours conditions and deletes many objects by one request again.
    pub fn clear(&self) {
        self.0.rules.lock().clear();
        self.ignore_conditions(false);
        self.refuse_bulk_deletions(false);
    }

    /// From now on `If-None-Match` and `If-Match` of puts are accepted and ignored, or honoured.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.0.ignore_conditions.store(ignore, Ordering::SeqCst);
    }

    /// From now on deletions of several objects by one request are not implemented, or are.
    pub fn refuse_bulk_deletions(&self, refuse: bool) {
        self.0.refuse_bulk.store(refuse, Ordering::SeqCst);
    }

    /// Requests seen since the start.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// Requests that met a fault since the start.
    pub fn met(&self) -> u64 {
        self.0.met.load(Ordering::SeqCst)
    }

    pub(crate) fn conditions_ignored(&self) -> bool {
        self.0.ignore_conditions.load(Ordering::SeqCst)
    }

    pub(crate) fn bulk_deletions_refused(&self) -> bool {
        self.0.refuse_bulk.load(Ordering::SeqCst)
    }

    pub(crate) fn draw(&self, method: &str, path: &str) -> Option<Fault> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        let mut rules = self.0.rules.lock();
        let rule = rules.iter_mut().find(|rule| rule.meets(method, path))?;
        if let Some(times) = &mut rule.times {
            *times -= 1;
        }
        self.0.met.fetch_add(1, Ordering::SeqCst);
        Some(rule.fault)
    }
}
