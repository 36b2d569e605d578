//! The demo's steps, in order.

use super::answers::Answers;
use super::bill::{self, Step};
use super::document::{Document, TREE};
use super::killing::{self, Round};
use super::writer::JOURNAL;
use super::{DemoArgs, cities, prove};
use crate::commands::import::{Import, Sink};
use crate::document::Record;
use crate::failure::Result;
use crate::object::Object;
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, count, duration, line_text, plural, rate};
use siltstone::blocking::{Database, Snapshot};
use siltstone::{Batch, Commit, CompactOptions, Durability, History, KeyspaceOptions, Totals};
use siltstone_storage::{Clock, SystemClock};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The name under which the imported state stays readable.
const IMPORTED: &str = "imported";
/// Records a commit while importing.
const BATCH: u64 = 1000;

/// Tells the whole story.
pub(crate) fn tell(args: &DemoArgs, records: Vec<Record>, session: &mut Session) -> Result<()> {
    let mut demo = Demo::begin(args, &records, session)?;
    demo.import(&records)?;
    let imported = demo.hold()?;
    let between = demo.change(&records)?;
    demo.compact(&records, &imported)?;
    let at = siltstone::Read::commit(&imported)?;
    // A snapshot ends with its process; the checkpoint goes on holding the commit.
    drop(imported);
    let rounds = demo.kill(args)?;
    demo.travel(at, between)?;
    demo.document(&records)?;
    demo.end(&rounds)
}

struct Demo<'a> {
    session: &'a mut Session,
    db: Database,
    dir: &'a Path,
    clock: SystemClock,
    samples: [Vec<u8>; 3],
    /// What the database must hold now.
    model: BTreeMap<Vec<u8>, Vec<u8>>,
    steps: Vec<Step>,
    proofs: u64,
}

impl<'a> Demo<'a> {
    fn begin(args: &'a DemoArgs, records: &[Record], session: &'a mut Session) -> Result<Self> {
        // Only the newest commit is kept readable, so that what stays is what is held.
        let newest_only = KeyspaceOptions {
            history: History::head_only(),
            ..KeyspaceOptions::default()
        };
        let url = args.dir.to_string_lossy().into_owned();
        let db = Database::open_with(&url, super::options(session), newest_only)?;
        db.create_keyspace(JOURNAL, KeyspaceOptions::default())?;
        let mut demo = Self {
            session,
            db,
            dir: &args.dir,
            clock: SystemClock::default(),
            samples: cities::samples(records),
            model: BTreeMap::new(),
            steps: Vec::new(),
            proofs: 0,
        };
        let title = format!("Siltstone, shown on {} cities", count(records.len() as u64));
        let title = demo.session.out.paint().bold(&title);
        demo.say(&title)?;
        demo.say("Data: GeoNames (geonames.org), CC BY 4.0")?;
        demo.say(format!("Database: {url}"))?;
        Ok(demo)
    }

    fn import(&mut self, records: &[Record]) -> Result<()> {
        self.heading("1  Import")?;
        let before = self.start();
        let progress = bar(
            self.session,
            "   importing",
            records.len() as u64,
            Unit::Items,
        );
        let mut import = Import::new(&self.db, self.db.default_keyspace().clone(), BATCH);
        for record in records {
            import.put(record.clone())?;
            progress.inc(1);
        }
        import.finish()?;
        let (commits, size) = (import.commits, import.bytes);
        // The full bar stays, for those who blinked.
        progress.finish();
        let took = self.clock.elapsed() - before.0;
        self.db.flush()?;
        self.model = records.iter().cloned().collect();
        self.stop("import", &before);
        let n = records.len() as u64;
        self.say(format!(
            "   {} in {}, {}, durable after {} ({})",
            plural(n, "record", "records"),
            plural(commits, "commit", "commits"),
            bytes(size),
            duration(took),
            rate(n, took)
        ))
    }

    fn hold(&mut self) -> Result<Snapshot> {
        let snapshot = self.db.snapshot()?;
        let checkpoint = self.db.checkpoint(IMPORTED, None)?;
        self.say(format!(
            "   a snapshot, and a checkpoint {IMPORTED:?}, hold commit {}",
            checkpoint.commit
        ))?;
        Ok(snapshot)
    }

    /// Overwrites every fifth city twice and deletes every twentieth. Answers a commit between.
    fn change(&mut self, records: &[Record]) -> Result<Commit> {
        self.heading("2  Overwrite and delete")?;
        let before = self.start();
        let samples = self.samples.clone();
        let keys = || records.iter().map(|(key, _)| key).enumerate();
        let followed = |key: &Vec<u8>| samples.contains(key);
        let grow: Vec<_> = keys()
            .filter(|(i, key)| **key == samples[0] || (i % 5 == 0 && !followed(key)))
            .map(|(_, key)| key.clone())
            .collect();
        let shut: Vec<_> = keys()
            .filter(|(i, key)| **key == samples[1] || (i % 20 == 7 && !followed(key)))
            .map(|(_, key)| key.clone())
            .collect();
        let between = self.grow(&grow)?;
        self.grow(&grow)?;
        let mut batch = Batch::new();
        for key in &shut {
            batch.delete(self.db.default_keyspace(), key);
            self.model.remove(key);
        }
        let last = self.db.write(&batch, Durability::Durable)?.commit;
        self.db.flush()?;
        self.stop("overwrite and delete", &before);
        self.say(format!(
            "   {} grew by 1 %, twice (commits {} and {}); {} were deleted (commit {last})",
            count(grow.len() as u64),
            between,
            between.0 + 1,
            count(shut.len() as u64),
        ))?;
        Ok(between)
    }

    /// Lets cities grow by one in a hundred, all in one durable commit.
    fn grow(&mut self, keys: &[Vec<u8>]) -> Result<Commit> {
        let mut batch = Batch::new();
        for key in keys {
            if let Some(value) = self.model.get_mut(key) {
                let now = cities::population(value);
                *value = cities::with_population(value, now + now.div_ceil(100));
                batch.put(self.db.default_keyspace(), key, value);
            }
        }
        let commit = self.db.write(&batch, Durability::Durable)?.commit;
        self.db.flush()?;
        Ok(commit)
    }

    /// Asks for everything before and after a compaction.
    fn compact(&mut self, records: &[Record], imported: &Snapshot) -> Result<()> {
        self.heading("3  Compaction changes no answer")?;
        let samples = self.samples.clone();
        let snapshot_before = Answers::of(imported, &samples)?;
        let head_before = Answers::of(&self.db, &samples)?;
        let before = self.start();
        let stats = self.db.compact(&CompactOptions::default())?;
        self.stop("compaction", &before);
        let snapshot_after = Answers::of(imported, &samples)?;
        let head_after = Answers::of(&self.db, &samples)?;
        self.say(format!(
            "   {} ({}) became {} ({}); dropped {}",
            plural(stats.inputs.len() as u64, "table", "tables"),
            bytes(stats.bytes_read),
            stats.outputs.len(),
            bytes(stats.bytes_written),
            plural(stats.dropped, "obsolete version", "obsolete versions"),
        ))?;
        self.compare(&[&snapshot_before, &snapshot_after, &head_before, &head_after])?;
        self.proof(
            snapshot_before == Answers::expected(records.iter(), &samples),
            "the snapshot answers what was imported",
        )?;
        self.proof(
            snapshot_after == snapshot_before,
            "the snapshot answers the same after compaction",
        )?;
        self.proof(
            head_after == head_before && head_after == self.expected(),
            "so does the head, and it differs from the snapshot",
        )?;
        prove(head_after.checksum != snapshot_after.checksum, || {
            "head and snapshot are the same".into()
        })?;
        prove(stats.dropped > 0, || "compaction dropped nothing".into())
    }

    fn expected(&self) -> Answers {
        let records: Vec<Record> = self
            .model
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        Answers::expected(records.iter(), &self.samples)
    }

    fn compare(&mut self, columns: &[&Answers; 4]) -> Result<()> {
        let heads = ["snapshot before", "after", "head before", "after"];
        let heads: String = heads.iter().map(|head| format!("{head:>16}")).collect();
        self.say(format!("   {:<12}{heads}", ""))?;
        let row = |name: &str, cell: &dyn Fn(&Answers) -> String| {
            let cells: String = columns.iter().map(|a| format!("{:>16}", cell(a))).collect();
            format!("   {name:<12.12}{cells}")
        };
        self.say(row("rows", &|a| count(a.rows)))?;
        self.say(row("checksum", &|a| format!("{:012x}", a.checksum >> 16)))?;
        let names: Vec<String> = self.samples.iter().map(|key| line_text(key)).collect();
        for (at, name) in names.iter().enumerate() {
            let cell = |a: &Answers| match &a.samples[at] {
                Some(value) => count(cities::population(value)),
                None => "deleted".to_string(),
            };
            self.say(row(name, &cell))?;
        }
        Ok(())
    }

    /// Kills the writer process again and again.
    fn kill(&mut self, args: &DemoArgs) -> Result<Vec<Round>> {
        self.heading("4  Kill the writer")?;
        self.say("   another process writes durably and reports each write; SIGKILL ends it")?;
        self.say(format!(
            "   {:>8}{:>15}{:>13}{:>7}{:>13}{:>17}",
            "process", "acknowledged", "recovered", "lost", "torn bytes", "reopened in"
        ))?;
        self.db.close()?;
        let started = self.clock.elapsed();
        let mut rounds = Vec::new();
        let mut next = 0;
        let mut totals = Totals::default();
        for _ in 0..args.rounds.max(1) {
            let run_for = Duration::from_millis(fastrand::u64(250..750));
            let (round, db) = killing::round(self.dir, next, run_for, self.session)?;
            next += round.recovered;
            self.say(format!(
                "   {:>8}{:>15}{:>13}{:>7}{:>13}{:>17}",
                round.process,
                count(round.acknowledged),
                count(round.recovered),
                0,
                count(round.torn_bytes),
                duration(round.reopened_in),
            ))?;
            rounds.push(round);
            db.flush()?;
            totals.flush_bytes += db.stats().totals.flush_bytes;
            if rounds.len() < args.rounds.max(1) as usize {
                db.close()?;
            }
            self.db = db;
        }
        let took = self.clock.elapsed() - started;
        let given = rounds.iter().map(|round| round.given).sum();
        let log = rounds.iter().map(|round| round.log).sum();
        self.steps.push(Step {
            given,
            log,
            ..Step::between("killed writers", took, &Totals::default(), &totals)
        });
        let acknowledged = rounds.iter().map(|round| round.acknowledged).sum();
        self.proof(
            true,
            &format!(
                "all {} acknowledged writes are there, in order, byte for byte",
                count(acknowledged)
            ),
        )?;
        let now = Answers::of(&self.db, &self.samples)?;
        self.proof(now == self.expected(), "and the cities are as they were")?;
        Ok(rounds)
    }

    /// Reads the past: where it is held, and where it is gone.
    fn travel(&mut self, imported: Commit, between: Commit) -> Result<()> {
        self.heading("5  Time travel")?;
        let key = self.samples[0].clone();
        let name = line_text(&key);
        let people = |value: Option<bytes::Bytes>| {
            value.map_or("absent".to_string(), |value| {
                count(cities::population(&value))
            })
        };
        let now = self.db.get(&key)?;
        let then = self.db.get_at(&key, imported)?;
        self.say(format!(
            "   get {name:<24} {:>12} inhabitants",
            people(now.clone())
        ))?;
        self.say(format!(
            "   get {:<24} {:>12} inhabitants",
            format!("{name} --at {imported}"),
            people(then.clone())
        ))?;
        prove(now.is_some() && then.is_some() && now != then, || {
            "the past is not the present".into()
        })?;
        match self.db.get_at(&key, between) {
            Err(siltstone::Error::Kv(error @ siltstone_kv::Error::NotRetained { .. })) => {
                self.say(format!("   get {name} --at {between}: error:"))?;
                for line in wrap(&error.to_string(), 70) {
                    self.say(format!("       {line}"))?;
                }
            }
            other => prove(false, || {
                format!("commit {between} should be gone, and reads {other:?}")
            })?,
        }
        self.proof(
            true,
            "a commit that is held reads exactly; one that is gone is an error",
        )?;
        let report = self.db.verify(|_, _| {})?;
        let sound = report.problems.is_empty();
        let claim = format!(
            "verify: {}, {}, nothing wrong",
            plural(report.blocks, "block", "blocks"),
            plural(report.entries, "version", "versions")
        );
        prove(sound, || {
            format!("verify found: {}", report.problems.join("; "))
        })?;
        self.proof(sound, &claim)
    }

    /// The cities as one JSON document: patched under a watch, read in the past, before and after a
    /// compaction.
    fn document(&mut self, records: &[Record]) -> Result<()> {
        self.heading("6  The cities as one document")?;
        let before = self.start();
        let document = Document::import(&self.db, records)?;
        self.say(format!(
            "   tree {TREE:?}: {} in commit {}",
            plural(document.cities, "city", "cities"),
            document.imported
        ))?;
        let (place, patched) = document.patch_watched(&self.samples[0])?;
        let patch = format!(
            "patch {place}: commit {}, which the watch on it told, and nothing else",
            patched.commit
        );
        self.say_wrapped(&patch)?;
        self.say_wrapped(&patched.told)?;
        self.proof(
            patched.once,
            "each commit of the path was told once, in order",
        )?;
        let there = document.answers(&place, patched.commit)?;
        document.compact()?;
        self.stop("document", &before);
        let still = document.answers(&place, patched.commit)?;
        for (commit, population) in [(document.imported, &there[0]), (patched.commit, &there[1])] {
            self.say_wrapped(&format!("{place} at commit {commit}: {population}"))?;
        }
        self.proof(
            there == still && there[0] != there[1],
            "the past answers the same after compaction, and it is not the present",
        )
    }

    fn end(mut self, rounds: &[Round]) -> Result<()> {
        self.heading("7  The bill")?;
        if self.session.out.json() {
            bill::objects(&self.steps, self.session)?;
        } else {
            bill::print(&self.steps, self.session)?;
        }
        self.db.close()?;
        let took = self.clock.elapsed();
        let dir = self.dir.display().to_string();
        if self.session.out.json() {
            let sum = |of: fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
            return self.session.out.object(
                Object::default()
                    .field("ok", &true)
                    .field("db", &dir)
                    .field("proofs", &self.proofs)
                    .field("records", &self.model.len())
                    .field("acknowledged", &sum(|r| r.acknowledged))
                    .field("recovered", &sum(|r| r.recovered))
                    .field("torn_bytes", &sum(|r| r.torn_bytes))
                    .field("replayed_commits", &sum(|r| r.replayed))
                    .field("seconds", &took.as_secs_f64()),
            );
        }
        let name = line_text(&self.samples[0]);
        self.say("")?;
        self.say(format!(
            "All {} proofs hold, in {}. Go on exploring:",
            self.proofs,
            duration(took)
        ))?;
        self.say(format!("   siltstone --db {dir} stats --deep"))?;
        self.say(format!("   siltstone --db {dir} history {name}"))?;
        self.say(format!(
            "   siltstone --db {dir} scan --prefix NO/ --limit 10"
        ))?;
        self.say(format!(
            "   siltstone --db {dir} tree --tree {TREE} keys --limit 10"
        ))
    }

    fn say(&mut self, line: impl std::fmt::Display) -> Result<()> {
        if self.session.out.json() {
            return Ok(());
        }
        self.session.out.line(line)?;
        self.session.out.flush()
    }

    /// What may be longer than a line, since names may be.
    fn say_wrapped(&mut self, text: &str) -> Result<()> {
        wrap(text, 70)
            .into_iter()
            .try_for_each(|line| self.say(format!("   {line}")))
    }

    fn heading(&mut self, heading: &str) -> Result<()> {
        let heading = self.session.out.paint().bold(heading);
        self.say("")?;
        self.say(heading)
    }

    /// Says what has been proved.
    fn proof(&mut self, holds: bool, claim: &str) -> Result<()> {
        prove(holds, || claim.to_string())?;
        self.proofs += 1;
        let ok = self.session.out.paint().green("ok");
        self.say(format!("   {ok} {claim}"))
    }

    fn start(&self) -> (Duration, Totals) {
        (self.clock.elapsed(), self.db.stats().totals)
    }

    fn stop(&mut self, name: &'static str, before: &(Duration, Totals)) {
        let took = self.clock.elapsed() - before.0;
        let totals = self.db.stats().totals;
        self.steps
            .push(Step::between(name, took, &before.1, &totals));
    }
}

/// Text in lines of at most `width` characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_string());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}
