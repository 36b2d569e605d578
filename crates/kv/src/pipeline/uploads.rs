//! Records on their way to a bucket: several at once, visible in order as their answers arrive.

use super::Group;
use crate::core::Core;
use crate::error::Result;
use crate::options::Background;
use crate::wal::log::{Upload, finish_upload};
use std::collections::VecDeque;
use std::time::Duration;

/// Records that leave in the time of one. With twice as many the store has twice the requests, and a put
/// waits no less for the slowest of them (`docs/decisions/0016-requests-of-a-bucket.md`).
const SPREAD: u32 = 8;
/// The longest time between two records that leave while others are on their way, unless more than
/// [`MOST`] would be.
const LONGEST_GAP: Duration = Duration::from_millis(5);
/// Records on their way to a bucket at once.
const MOST: usize = 16;
/// A group of this many bytes fills an object of the log by itself: it is not held back to share one.
const ENOUGH: usize = 256 * 1024;
/// How long a group is held back before it is looked at again.
const LOOK: Duration = Duration::from_millis(5);

/// Records on their way to a bucket, oldest first, each with the group it makes durable.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    queue: VecDeque<(Option<Upload>, Group)>,
    pub(super) busy: bool,
    /// The least time between two records that somebody waits for.
    interval: Duration,
    /// When the newest record left.
    left: Option<Duration>,
    /// What an upload takes, smoothed.
    typical: Duration,
}

impl Uploads {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            ..Self::default()
        }
    }

    /// How long the next record waits at `now`; `held_back`: as long as was asked for, so that others
    /// share it. The first one goes at once. While others are on their way records leave
    /// evenly spread over the time of one: were they to leave as fast as they come, all places would be
    /// taken within a moment, and who comes then would wait for a whole upload.
    fn wait_at(&self, now: Duration, held_back: bool) -> Duration {
        let Some(left) = self.left else {
            return Duration::ZERO;
        };
        let spread = (self.typical / SPREAD)
            .min(LONGEST_GAP)
            .max(self.typical / MOST as u32);
        let spread = if self.busy { spread } else { Duration::ZERO };
        let interval = if held_back {
            self.interval
        } else {
            Duration::ZERO
        };
        (left + spread.max(interval)).saturating_sub(now)
    }

    /// An upload took so long.
    fn note(&mut self, took: Duration) {
        self.typical = match self.typical.is_zero() {
            true => took,
            false => (self.typical * 7 + took) / 8,
        };
    }
}

impl Core {
    /// Waits until the next record may leave for the bucket; writes that come meanwhile go with it.
    pub(super) fn spread_uploads(&self) {
        if !self.threaded() {
            return;
        }
        let clock = &self.shared.env.clock;
        loop {
            let held_back = self.is_held_back();
            let wait = self.uploads.lock().wait_at(clock.elapsed(), held_back);
            if wait.is_zero() {
                return;
            }
            clock.sleep(wait.min(LOOK));
        }
    }

    /// Whether the next group makes a record that others may share. What waits for no answer does not, nor
    /// does the end of everything.
    fn is_held_back(&self) -> bool {
        let (durable, empty, bytes) = {
            let group = &self.queue.lock().group;
            (group.durable, group.commits == 0, group.payload.len())
        };
        let makes_a_record = !empty || self.log.lock().has_pending();
        durable && bytes < ENOUGH && makes_a_record && !self.signals.is_ending()
    }

    /// With threads, the upload's end is awaited elsewhere while the next group goes out; without,
    /// here.
    pub(super) fn finish_or_queue(
        &self,
        upload: Option<Upload>,
        group: Group,
    ) -> Option<(Group, Result<()>)> {
        if self.shared.options.background == Background::Manual {
            let result = self.finish_uploaded(upload, &group);
            return Some((group, result));
        }
        let mut uploads = self.uploads.lock();
        while uploads.queue.len() >= MOST {
            self.uploads_changed.wait(&mut uploads);
        }
        if upload.is_some() {
            uploads.left = Some(self.shared.env.clock.elapsed());
        }
        uploads.queue.push_back((upload, group));
        uploads.busy = true;
        self.uploads_changed.notify_all();
        None
    }

    fn finish_uploaded(&self, upload: Option<Upload>, group: &Group) -> Result<()> {
        let done = match upload {
            Some(upload) => finish_upload(&self.shared.env, upload, self.manifest.epoch()),
            None => Ok(()),
        };
        // After a failure nothing later may become visible either: its record has a gap before it.
        let done = done.and_then(|()| self.shared.check_writable());
        match &done {
            Ok(()) => {
                self.insert(group);
                self.publish(group);
            }
            Err(error) => self.shared.stop(error),
        }
        done
    }

    /// Waits for uploads in order; the life of the upload thread of a bucket.
    pub(crate) fn finish_uploads(&self) {
        let mut uploads = self.uploads.lock();
        loop {
            while let Some((upload, group)) = uploads.queue.pop_front() {
                drop(uploads);
                let started = upload.as_ref().map(|upload| upload.started);
                let result = self.finish_uploaded(upload, &group);
                self.finish(group, &result);
                uploads = self.uploads.lock();
                if let Some(started) = started {
                    let now = self.shared.env.clock.elapsed();
                    uploads.note(now.saturating_sub(started));
                }
                uploads.busy = !uploads.queue.is_empty();
                self.uploads_changed.notify_all();
            }
            if self.signals.is_ending() {
                return;
            }
            self.uploads_changed.wait(&mut uploads);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_lone_record_leaves_at_once_and_others_spread_over_the_time_of_one() {
        let mut uploads = Uploads {
            busy: true,
            ..Uploads::default()
        };
        assert_eq!(uploads.wait_at(ms(0), true), ms(0), "none left before");
        uploads.busy = false;
        uploads.note(ms(32));
        uploads.left = Some(ms(100));
        assert_eq!(
            uploads.wait_at(ms(100), true),
            ms(0),
            "nothing is on its way"
        );
        uploads.busy = true;
        assert_eq!(uploads.wait_at(ms(100), true), ms(4));
        assert_eq!(uploads.wait_at(ms(101), false), ms(3));
        assert_eq!(uploads.wait_at(ms(105), true), ms(0));
        // From a slow store answers come late enough for a place to be free.
        for (typical, gap) in [(80, LONGEST_GAP), (800, ms(50))] {
            let mut uploads = Uploads {
                left: Some(ms(100)),
                busy: true,
                ..Uploads::default()
            };
            uploads.note(ms(typical));
            assert_eq!(uploads.wait_at(ms(100), true), gap);
            assert!(gap * MOST as u32 >= ms(typical));
        }
    }

    #[test]
    fn no_two_shared_records_leave_within_the_interval_that_was_asked_for() {
        let mut uploads = Uploads::new(ms(25));
        assert_eq!(uploads.wait_at(ms(5), true), ms(0), "the first one");
        uploads.note(ms(32));
        uploads.left = Some(ms(100));
        for busy in [false, true] {
            uploads.busy = busy;
            assert_eq!(uploads.wait_at(ms(110), true), ms(15));
            assert_eq!(uploads.wait_at(ms(125), true), ms(0));
        }
        // What fills an object, or waits for no answer, is held back only as without an interval.
        assert_eq!(uploads.wait_at(ms(100), false), ms(4));
        uploads.busy = false;
        assert_eq!(uploads.wait_at(ms(100), false), ms(0));
        // A slow store is not asked more often either.
        uploads.busy = true;
        uploads.typical = ms(800);
        assert_eq!(uploads.wait_at(ms(110), true), ms(40));
    }
}
