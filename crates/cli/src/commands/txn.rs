//! `siltstone txn`: a script of operations that becomes one commit, or nothing.

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::script::{self, Expected, Op, Step};
use crate::session::Session;
use crate::units::{duration, line_text, plural};
use clap::{Args, ValueEnum};
use siltstone::blocking::{Database, Keyspace, Transaction};
use siltstone::{Isolation, KeyspaceOptions, KvError, PutStats, Read, Savepoint};
use siltstone_storage::{Clock, SystemClock};
use std::io::{self, Read as _};
use std::ops::Bound;

const HELP: &str = "\
One operation a line; words are quoted as in a shell, # begins a comment:
  put KEY VALUE [ttl=30s]          set a key, for a time or for good
  delete KEY
  delete-range FROM TO             every key from FROM on and before TO
  merge KEY OPERAND                as the keyspace's merge operator says
  get KEY                          print its value
  scan [FROM [TO]]                 print keys and values
  expect KEY VALUE|absent|present  refuse the script when this does not hold
  in KEYSPACE                      what follows is about this keyspace
  savepoint NAME                   a place to come back to
  rollback NAME                    undo what was written since

A line may be a JSON object instead, with the operation in \"op\" and the words in
\"key\", \"value\", \"ttl\", \"operand\", \"from\", \"to\", \"is\", \"keyspace\" and \"name\".
\"value\" and \"operand\" are stored as they are written; text without quotes goes
into \"value_text\", bytes into \"value_hex\".

A value that is itself the word absent or present is expected with an object.

All lines are read before anything is done. They see one commit, and what the
lines before them wrote. Results are printed once the commit is durable. An
empty FROM or TO is open. Exit code 5: somebody else came first, in every try;
6: what a line expects does not hold. Nothing was written then.";

/// Arguments of `txn`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TxnArgs {
    /// The script; `-` or nothing for stdin
    file: Option<String>,
    /// What the script is protected from
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "serializable")]
    isolation: Level,
    /// How often to try again when somebody else came first
    #[arg(long, value_name = "N", default_value_t = 10)]
    retries: u32,
}

/// A level of isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    /// As if scripts ran one after another
    Serializable,
    /// Only keys that are written must not have changed
    Snapshot,
}

/// What an operation found.
enum Found {
    Value(Vec<u8>, Option<Vec<u8>>),
    Row(Vec<u8>, Vec<u8>),
}

pub(crate) fn run(args: &TxnArgs, session: &mut Session) -> Result<()> {
    let steps = script::parse(&read(args)?)?;
    let db = session.create(KeyspaceOptions::default())?;
    let clock = SystemClock::default();
    let isolation = match args.isolation {
        Level::Serializable => Isolation::Serializable,
        Level::Snapshot => Isolation::Snapshot,
    };
    let mut tries = 0;
    let done = loop {
        tries += 1;
        let tried = one_try(&steps, isolation, &db, session);
        match tried {
            Err(failure) if failure.is_conflict() && tries <= args.retries => {}
            Err(failure) if failure.is_conflict() => {
                break Err(failure.at(format!(
                    "gave up after {}",
                    plural(tries.into(), "try", "tries")
                )));
            }
            tried => break tried,
        }
    };
    let took = clock.elapsed();
    db.close()?;
    let (found, stats) = done?;
    for (line, found) in &found {
        print(*line, found, session)?;
    }
    let wrote = stats.destination != siltstone::Source::None;
    let what = match wrote {
        true => format!("commit {}, durable", stats.commit),
        false => format!("read at commit {}, nothing to write", stats.commit),
    };
    let operations = steps.len() as u64;
    let note = format!(
        "{what}; {} in {}, {}",
        plural(operations, "operation", "operations"),
        plural(tries.into(), "try", "tries"),
        duration(took)
    );
    session.out.done(note, || {
        Object::default()
            .field("commit", &stats.commit)
            .field("wrote", &wrote)
            .field("operations", &operations)
            .field("tries", &tries)
    })
}

fn read(args: &TxnArgs) -> Result<String> {
    let mut script = Vec::new();
    let (name, read) = match args.file.as_deref() {
        None | Some("-") => ("stdin", io::stdin().lock().read_to_end(&mut script)),
        Some(name) => {
            let file = std::fs::File::open(name);
            (
                name,
                file.and_then(|mut file| file.read_to_end(&mut script)),
            )
        }
    };
    read.map_err(|error| Failure::io(name, &error))?;
    String::from_utf8(script).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let lines = error.as_bytes()[..good].split(|byte| *byte == b'\n');
        let what = "is not UTF-8; bytes go into a JSON object, as \"value_hex\"";
        Failure::Usage(what.into()).at(format!("line {}", lines.count()))
    })
}

type Done = (Vec<(u64, Found)>, PutStats);

fn one_try(steps: &[Step], isolation: Isolation, db: &Database, session: &Session) -> Result<Done> {
    let txn = db.begin(isolation)?;
    let mut running = Running {
        keyspace: session.keyspace(db)?,
        db,
        txn: &txn,
        savepoints: Vec::new(),
        found: Vec::new(),
    };
    for step in steps {
        running
            .step(step)
            .map_err(|failure| failure.at(format!("line {}", step.line)))?;
    }
    let found = running.found;
    Ok((found, txn.commit()?))
}

/// A script under way.
struct Running<'a> {
    db: &'a Database,
    txn: &'a Transaction,
    keyspace: Keyspace,
    savepoints: Vec<(String, Savepoint)>,
    found: Vec<(u64, Found)>,
}

impl Running<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        let (txn, keyspace) = (self.txn, &self.keyspace);
        match &step.op {
            Op::Put(key, value, None) => txn.put(keyspace, key, value)?,
            Op::Put(key, value, Some(ttl)) => txn.put_ttl(keyspace, key, value, *ttl)?,
            Op::Delete(key) => txn.delete(keyspace, key)?,
            Op::DeleteRange(from, to) => {
                let range = siltstone::KeyRange::new(bounds(from, to).0, bounds(from, to).1)?;
                txn.delete_range(keyspace, &range)?;
            }
            Op::Merge(key, operand) => txn.merge(keyspace, key, operand)?,
            Op::Get(key) => {
                let value = txn.on(keyspace).get(key)?.map(|value| value.to_vec());
                self.found
                    .push((step.line, Found::Value(key.clone(), value)));
            }
            Op::Scan(from, to) => {
                let mut scan = txn.on(keyspace).scan::<&[u8]>(bounds(from, to))?;
                while scan.next() {
                    let row = Found::Row(scan.key().to_vec(), scan.value().to_vec());
                    self.found.push((step.line, row));
                }
                if let Some(error) = scan.error() {
                    return Err(error.clone().into());
                }
            }
            Op::Expect(key, expected) => self.expect(key, expected)?,
            Op::In(name) => self.keyspace = self.db.keyspace(name)?,
            Op::Savepoint(name) => self.savepoints.push((name.clone(), txn.savepoint()?)),
            Op::Rollback(name) => {
                let at = self.savepoints.iter().rposition(|(known, _)| known == name);
                let at = at.expect("the parser has seen that it is set");
                txn.roll_back_to(&self.savepoints[at].1)?;
                self.savepoints.truncate(at + 1);
            }
        }
        Ok(())
    }

    fn expect(&self, key: &[u8], expected: &Expected) -> Result<()> {
        let found = self.txn.get_for_update(&self.keyspace, key)?;
        let holds = match expected {
            Expected::Absent => found.is_none(),
            Expected::Present => found.is_some(),
            Expected::Value(value) => found.as_deref() == Some(value),
        };
        match holds {
            true => Ok(()),
            false => Err(KvError::ConditionFailed {
                key: line_text(key),
                found: match found {
                    Some(value) => format!("the value is \"{}\"", line_text(&value)),
                    None => "there is no value".into(),
                },
            }
            .into()),
        }
    }
}

fn bounds<'a>(from: &'a [u8], to: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let open = |bound: &[u8]| bound.is_empty();
    (
        if open(from) {
            Bound::Unbounded
        } else {
            Bound::Included(from)
        },
        if open(to) {
            Bound::Unbounded
        } else {
            Bound::Excluded(to)
        },
    )
}

fn print(line: u64, found: &Found, session: &mut Session) -> Result<()> {
    let out = &mut session.out;
    match (found, out.json()) {
        (Found::Value(key, value), true) => {
            let object = Object::default().field("line", &line).text("key", key);
            let object = match value {
                Some(value) => object.value(Some(value)),
                None => object.field("absent", &true),
            };
            out.object(object)
        }
        (Found::Row(key, value), true) => out.object(
            Object::default()
                .field("line", &line)
                .text("key", key)
                .value(Some(value)),
        ),
        (Found::Value(_, Some(value)), false) => out.line(line_text(value)),
        (Found::Value(_, None), false) => {
            let absent = out.paint().cyan("(absent)");
            out.line(absent)
        }
        (Found::Row(key, value), false) => {
            out.line(format_args!("{}\t{}", line_text(key), line_text(value)))
        }
    }
}
