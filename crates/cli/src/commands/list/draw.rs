//! `stats`: the runs as bars, and what they make of the list.

use crate::failure::Result;
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, count};
use siltstone::list::{Chars, Content, Sequence, Values};
use siltstone::lists::{self, ListKind};

/// Runs of about one length are one bar: from this length, doubling.
const BARS: usize = 24;
const WIDTH: usize = 40;

pub(super) fn stats(name: &str, session: &mut Session) -> Result<()> {
    let reader = session.reader()?;
    match lists::kind(&reader, name)? {
        ListKind::Text => draw(&lists::read::<Chars>(&reader, name)?, session),
        ListKind::List => draw(&lists::read::<Values>(&reader, name)?, session),
    }
}

fn draw<C: Content>(sequence: &Sequence<C>, session: &mut Session) -> Result<()> {
    let stats = sequence.compaction_stats();
    let encoded = sequence.encode().map_err(siltstone::Error::from)?.len();
    let runs = sequence.run_lengths();
    let frontier = sequence.frontier();
    let transactions: u64 = frontier.iter().map(|(_, count)| u64::from(count)).sum();
    if session.out.json() {
        let object = Object::default()
            .field("len", &sequence.len())
            .field("runs", &runs.len())
            .field("sessions", &frontier.iter().count())
            .field("transactions", &transactions)
            .field("total_nodes", &stats.total_nodes)
            .field("linear_chains", &stats.linear_chains)
            .field("compactable_nodes", &stats.compactable_nodes)
            .field("avg_chain_length", &stats.avg_chain_length)
            .field("max_chain_length", &stats.max_chain_length)
            .field("compaction_ratio", &stats.compaction_ratio)
            .field("memory_bytes", &sequence.heap_bytes())
            .field("encoded_bytes", &encoded);
        return session.out.object(object);
    }
    bars(&runs, session)?;
    let figures = [
        ("elements shown", count(sequence.len() as u64)),
        (
            "total nodes, deleted ones too",
            count(stats.total_nodes as u64),
        ),
        (
            "linear chains, of 3 and more",
            count(stats.linear_chains as u64),
        ),
        (
            "compactable nodes, in chains",
            count(stats.compactable_nodes as u64),
        ),
        (
            "average chain length",
            format!("{:.1}", stats.avg_chain_length),
        ),
        ("longest chain", count(stats.max_chain_length as u64)),
        (
            "compaction ratio, 1 is none",
            format!("{:.4}", stats.compaction_ratio),
        ),
        (
            "transactions, by sessions",
            format!("{} by {}", count(transactions), frontier.iter().count()),
        ),
        (
            "in memory, stored",
            format!(
                "{}, {}",
                bytes(sequence.heap_bytes() as u64),
                bytes(encoded as u64)
            ),
        ),
    ];
    for (what, figure) in figures {
        session.out.line(format_args!("{what:<31}  {figure}"))?;
    }
    Ok(())
}

/// A bar for each length of runs, doubling: how many elements are in runs of that length.
fn bars(runs: &[usize], session: &mut Session) -> Result<()> {
    let mut in_runs = [(0_usize, 0_usize); BARS];
    for &run in runs {
        let bar = &mut in_runs[(run.ilog2() as usize).min(BARS - 1)];
        *bar = (bar.0 + 1, bar.1 + run);
    }
    let most = in_runs.iter().map(|bar| bar.1).max().unwrap_or(0);
    let Some(last) = in_runs.iter().rposition(|bar| bar.0 > 0) else {
        return Ok(());
    };
    session
        .out
        .line("runs of this length        runs   elements")?;
    for (at, (runs, elements)) in in_runs.iter().enumerate().take(last + 1) {
        let (from, to) = (1_usize << at, (2_usize << at) - 1);
        let lengths = if from == to {
            from.to_string()
        } else {
            format!("{from}-{to}")
        };
        let eighths = (elements * WIDTH * 8).div_ceil(most.max(1));
        let partial = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        let bar = session
            .out
            .paint()
            .cyan(&format!("{}{partial}", "█".repeat(eighths / 8)));
        let (runs, elements) = (count(*runs as u64), count(*elements as u64));
        session.out.line(format_args!(
            "{lengths:>18}  {runs:>10} {elements:>10}  {bar}"
        ))?;
    }
    session.out.line("")
}
