//! `siltstone demo ledger`: the race between commits and a compaction, in every order of steps, for the
//! swap that loses commits and for the one that does not; then a real ledger, compacted while a writer
//! commits, opened again and counted.

use super::prove;
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{count, plural};
use clap::Args;
use siltstone::blocking::Database;
use siltstone::ledger::race::{Walked, Way, walk};
use siltstone::ledger::{AllDocs, Background, Document, Ledger, Options};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Arguments of `demo ledger`.
#[derive(Debug, Args)]
pub(crate) struct LedgerDemoArgs {
    /// The folder for the demo's ledger; new or empty
    #[arg(long, value_name = "DIR", default_value = "./siltstone-ledger-demo")]
    dir: PathBuf,
    /// Documents that are written while compactions run
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    documents: u64,
}

pub(crate) fn run(args: &LedgerDemoArgs, session: &mut Session) -> Result<()> {
    super::must_be_new(&args.dir)?;
    say(session, "\n1  The race, in every order of its steps")?;
    say(
        session,
        "   Two commits append and publish what log they saw; a compaction captures,",
    )?;
    say(session, "   copies, swaps; replaced files are deleted.")?;
    let naive = walk(Way::Naive, 2, 1);
    tell_naive(&naive, session)?;
    prove(!naive.wrong.is_empty(), || {
        "the naive swap should lose commits, or this demo shows nothing".into()
    })?;
    say(session, "\n   The append-aware swap:")?;
    let mut states = 0;
    for (writers, compactors) in [(2, 1), (3, 1), (2, 2)] {
        let ours = walk(Way::Ours, writers, compactors);
        let wrong: Vec<_> = ours.wrong.keys().copied().collect();
        prove(wrong.is_empty(), || {
            format!(
                "{writers} commits, {compactors} compactions: {}",
                wrong.join("; ")
            )
        })?;
        states += ours.states;
        say(
            session,
            &format!(
                "   {writers} commits, {}: {} states, nothing lost, nothing dangling",
                plural(compactors as u64, "compaction", "compactions"),
                count(ours.states as u64)
            ),
        )?;
    }
    say(session, "\n2  A ledger, compacted while it is written")?;
    let compactions = write_and_compact(args)?;
    let found = count_again(&args.dir)?;
    prove(found == args.documents, || {
        format!("{found} of {} documents are there", args.documents)
    })?;
    say(
        session,
        &format!(
            "   {} put one by one beside {}; opened again: {} there, verified",
            plural(args.documents, "document", "documents"),
            plural(compactions, "compaction", "compactions"),
            if found == args.documents {
                "all"
            } else {
                "not all"
            }
        ),
    )?;
    let dir = args.dir.display().to_string();
    say(session, "\n   It is yours now:")?;
    say(
        session,
        &format!("   siltstone --db {dir} ledger all demo --limit 3"),
    )?;
    if session.out.json() {
        let object = Object::default()
            .field("naive_states", &naive.states)
            .field("naive_failures", &naive.wrong.keys().collect::<Vec<_>>())
            .field("states", &states)
            .field("documents", &found)
            .field("compactions", &compactions);
        session.out.object(object)?;
    }
    Ok(())
}

fn say(session: &mut Session, line: &str) -> Result<()> {
    if session.out.json() || session.out.quiet() {
        return Ok(());
    }
    session.out.line(line)
}

fn tell_naive(naive: &Walked, session: &mut Session) -> Result<()> {
    let states = count(naive.states as u64);
    say(
        session,
        &format!("\n   The naive swap (log = [output]), {states} states:"),
    )?;
    for (wrong, steps) in &naive.wrong {
        say(session, &format!("   {wrong}, for example after:"))?;
        for (number, step) in steps.iter().enumerate() {
            say(session, &format!("     T{}  {step}", number + 1))?;
        }
    }
    Ok(())
}

/// Does something with the demo's ledger, in a database opened for it.
fn with<T>(dir: &Path, work: impl FnOnce(&Ledger) -> Result<T>) -> Result<T> {
    let options = Options {
        background: Background::Off,
        ..Options::default()
    };
    let db = Database::open(&dir.display().to_string())?;
    let done = work(&db.ledgers().open_or_create("demo", options)?)?;
    db.close()?;
    Ok(done)
}

/// Puts the documents while another thread compacts without a break; how many compactions that were.
fn write_and_compact(args: &LedgerDemoArgs) -> Result<u64> {
    let over = AtomicBool::new(false);
    with(&args.dir, |ledger| {
        std::thread::scope(|scope| {
            let compactor = scope.spawn(|| {
                let mut compactions = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    compactions += u64::from(ledger.compact()?.captured_cars > 0);
                }
                Ok(compactions)
            });
            let put = (0..args.documents).try_for_each(|number| {
                let value = serde_json::json!({ "number": number });
                let document = Document::from_json(&value)?;
                ledger
                    .put(&format!("grain-{number:06}"), &document)
                    .map(drop)
            });
            over.store(true, Ordering::Relaxed);
            let compactions = compactor.join().map_err(|_| {
                Failure::Other("the compacting thread panicked; please report this".into())
            })?;
            let both = put.and(compactions);
            both.map_err(|error| Failure::from(siltstone::Error::from(error)))
        })
    })
}

/// Opens the ledger again, checks every block, and counts what it lists.
fn count_again(dir: &Path) -> Result<u64> {
    with(dir, |ledger| {
        let read = || {
            ledger.verify()?.into_result()?;
            ledger.all_docs(&AllDocs::default())
        };
        let page = read().map_err(siltstone::Error::from)?;
        Ok(page.rows.len() as u64)
    })
}
