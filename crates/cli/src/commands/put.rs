//! `siltstone put`: one key, or JSON lines from stdin.
//!
//! Lines that are already waiting are made durable together; a line that comes alone is made durable
//! alone. A key is acknowledged only after its write is durable.

use crate::document::{self, KEY_FIELD};
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::output::Out;
use crate::session::Session;
use crate::units::{bytes, duration, line_text, parse_duration, plural, rate};
use clap::Args;
use siltstone::blocking::{Database, Keyspace};
use siltstone::{Batch, Commit, Durability, Expect, KeyspaceOptions, PutStats};
use siltstone_storage::{Clock, SystemClock};
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

/// Most lines made durable together.
const GROUP: usize = 256;

/// Arguments of `put`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without KEY and VALUE, each line of stdin is a JSON object; its key is taken\nfrom the field `_id` and put back when it is exported."
)]
pub(crate) struct PutArgs {
    /// The key
    #[arg(requires = "value")]
    key: Option<String>,
    /// The value; `-` reads it from stdin
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// The field of a line that holds its key; it stays in the value
    #[arg(long, value_name = "NAME", default_value = KEY_FIELD, conflicts_with = "key")]
    key_field: String,
    /// Print each key on stdout as its write becomes durable
    #[arg(long, conflicts_with = "buffered")]
    ack: bool,
    /// Do not wait for the disk before the end
    #[arg(long)]
    buffered: bool,
    /// Let the values expire after this time, for example 30s or 7days
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Only if the key is not there
    #[arg(long, requires = "key", conflicts_with_all = ["if_value", "buffered", "ttl"])]
    if_absent: bool,
    /// Only if the key has this value
    #[arg(long, value_name = "VALUE", requires = "key", conflicts_with_all = ["buffered", "ttl"], allow_hyphen_values = true)]
    if_value: Option<String>,
}

impl PutArgs {
    fn put(
        &self,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
        durability: Durability,
    ) -> Result<PutStats> {
        Ok(match (self.ttl, &self.if_value) {
            (_, Some(expected)) => {
                keyspace.put_if(key, Expect::Value(expected.as_bytes()), value)?
            }
            _ if self.if_absent => keyspace.put_if(key, Expect::Absent, value)?,
            (Some(ttl), None) => {
                let mut batch = Batch::new();
                batch.put_ttl(keyspace, key, value, ttl);
                keyspace.database().write(&batch, durability)?
            }
            (None, None) => keyspace.put_with(key, value, durability)?,
        })
    }
}

pub(crate) fn run(args: &PutArgs, session: &mut Session) -> Result<()> {
    let db = session.create(KeyspaceOptions::default())?;
    let keyspace = session.keyspace(&db)?;
    match (&args.key, &args.value) {
        (Some(key), Some(value)) => one(args, key, value, &keyspace, session)?,
        _ => {
            let put = Put {
                db: &db,
                keyspace,
                durability: Durability::Buffered,
                args,
                waiting: Vec::new(),
                records: 0,
                bytes: 0,
            };
            put.lines(session)?;
        }
    }
    db.close()?;
    Ok(())
}

fn one(
    args: &PutArgs,
    key: &str,
    value: &str,
    keyspace: &Keyspace,
    session: &mut Session,
) -> Result<()> {
    let value = match value {
        "-" => {
            let mut bytes = Vec::new();
            io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .map_err(|e| Failure::io("stdin", &e))?;
            bytes
        }
        text => text.as_bytes().to_vec(),
    };
    let (durability, how) = match args.buffered {
        true => (Durability::Buffered, "buffered"),
        false => (Durability::Durable, "durable"),
    };
    let stats = args.put(keyspace, key.as_bytes(), &value, durability)?;
    if args.ack && !session.out.json() {
        session.out.line(line_text(key.as_bytes()))?;
        session.out.flush()?;
    }
    let note = format!(
        "commit {}, {how}, {}",
        stats.commit,
        duration(stats.latency)
    );
    session.out.done(note, || {
        let micros = stats.latency.as_micros() as u64;
        acknowledgement(key.as_bytes(), stats.commit).field("micros", &micros)
    })
}

/// Lines on their way into the database.
struct Put<'a> {
    db: &'a Database,
    keyspace: Keyspace,
    durability: Durability,
    args: &'a PutArgs,
    /// Written and not yet durable.
    waiting: Vec<(Vec<u8>, Commit)>,
    records: u64,
    bytes: u64,
}

impl Put<'_> {
    fn lines(mut self, session: &mut Session) -> Result<()> {
        let clock = SystemClock::default();
        let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
        let mut line = Vec::new();
        for number in 1u64.. {
            line.clear();
            let read = input
                .read_until(b'\n', &mut line)
                .map_err(|e| Failure::io("stdin", &e))?;
            if read == 0 {
                break;
            }
            if let Err(failure) = self.line(&line) {
                self.settle(&mut session.out)?;
                return Err(failure.at(format!("line {number}")));
            }
            let more = input.buffer().contains(&b'\n');
            if !self.args.buffered && (!more || self.waiting.len() >= GROUP) {
                self.settle(&mut session.out)?;
            }
        }
        self.settle(&mut session.out)?;
        let took = clock.elapsed();
        session.out.note(format!(
            "{}, {} in {} ({})",
            plural(self.records, "record", "records"),
            bytes(self.bytes),
            duration(took),
            rate(self.records, took),
        ));
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<()> {
        let line = std::str::from_utf8(line)
            .map_err(|e| Failure::Other(format!("is not UTF-8 from byte {}", e.valid_up_to())))?;
        if line.trim().is_empty() {
            return Ok(());
        }
        let (key, value) =
            document::from_line(line, &self.args.key_field).map_err(Failure::Other)?;
        let PutStats { commit, .. } =
            self.args
                .put(&self.keyspace, &key, &value, self.durability)?;
        self.records += 1;
        self.bytes += (key.len() + value.len()) as u64;
        if !self.args.buffered {
            self.waiting.push((key, commit));
        }
        Ok(())
    }

    /// Makes what waits durable, then says so.
    fn settle(&mut self, out: &mut Out) -> Result<()> {
        self.db.sync()?;
        if self.args.ack {
            for (key, commit) in &self.waiting {
                match out.json() {
                    true => out.object(acknowledgement(key, *commit))?,
                    false => out.line(line_text(key))?,
                }
            }
            out.flush()?;
        }
        self.waiting.clear();
        Ok(())
    }
}

fn acknowledgement(key: &[u8], commit: Commit) -> Object {
    Object::default().text("key", key).field("commit", &commit)
}
