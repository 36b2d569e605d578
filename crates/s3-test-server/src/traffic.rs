//! What was asked of the server: requests by kind, and how many of them came one after another.

use hyper::{Method, Uri};
use parking_lot::Mutex;
use std::sync::Arc;

/// Requests since the count began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects written: PUT and POST, parts of uploads among them.
    pub puts: u64,
    /// Objects read, whole or in part.
    pub gets: u64,
    /// Pages of listings.
    pub lists: u64,
    /// Looks at an object without reading it.
    pub heads: u64,
    /// Deletions, each of one object or of several.
    pub deletes: u64,
    /// The longest chain of answered requests each of which came after the one before was answered:
    /// the time that somebody waited who waited for all of them, in answers.
    pub in_sequence: u64,
}

impl Tally {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.puts + self.gets + self.lists + self.heads + self.deletes
    }
}

#[derive(Debug, Default)]
struct State {
    tally: Tally,
    /// Counts the beginnings, so that what was under way at one of them belongs to none.
    beginning: u64,
}

/// The count of a server's requests. Clones are the same count.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<State>>);

impl Traffic {
    /// Counts from zero.
    pub fn start_over(&self) {
        let mut state = self.0.lock();
        *state = State {
            beginning: state.beginning + 1,
            ..State::default()
        };
    }

    /// What was counted since.
    pub fn tally(&self) -> Tally {
        self.0.lock().tally
    }

    /// Counts a request; it is answered when the result is dropped.
    pub(crate) fn arrive(&self, method: &Method, uri: &Uri) -> UnderWay {
        let mut state = self.0.lock();
        let tally = &mut state.tally;
        let count = match *method {
            Method::POST if is_deletion(uri) => &mut tally.deletes,
            Method::PUT | Method::POST => &mut tally.puts,
            Method::HEAD => &mut tally.heads,
            Method::DELETE => &mut tally.deletes,
            // A key follows the bucket, or it is the bucket that is read.
            _ if uri.path().trim_matches('/').contains('/') => &mut tally.gets,
            _ => &mut tally.lists,
        };
        *count += 1;
        let place = state.tally.in_sequence + 1;
        UnderWay {
            traffic: self.clone(),
            beginning: state.beginning,
            place,
        }
    }
}

/// Several objects are deleted by one POST to the bucket.
fn is_deletion(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.starts_with("delete"))
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(crate) struct UnderWay {
    traffic: Traffic,
    beginning: u64,
    place: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.traffic.0.lock();
        if state.beginning == self.beginning {
            let longest = &mut state.tally.in_sequence;
            *longest = (*longest).max(self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_overlap_count_once_in_sequence() {
        let traffic = Traffic::default();
        let get = |path: &str| {
            let uri: Uri = path.parse().expect("a path");
            traffic.arrive(&Method::GET, &uri)
        };
        let (a, b) = (get("/bucket/a"), get("/bucket/b"));
        drop(a);
        let c = get("/bucket/c");
        drop((b, c));
        drop(get("/bucket?list-type=2"));
        let tally = traffic.tally();
        assert_eq!((tally.gets, tally.lists, tally.requests()), (3, 1, 4));
        assert_eq!(tally.in_sequence, 3, "a, c, the listing");
        let late = get("/bucket/a");
        traffic.start_over();
        drop(late);
        drop(get("/bucket/a"));
        assert_eq!(traffic.tally().in_sequence, 1);
    }
}
