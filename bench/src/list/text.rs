//! Workloads on texts: what each figure of a trace is, written once for every engine.

use super::clock::sample;
use super::engine::{Form, Result, TextEngine, ensure};
use super::heap;
use super::job::{Outcome, TextFigure};
use super::trace::{Patch, Trace};

/// The replica that receives what others wrote.
const READER: u64 = 1_000;

/// Measures `figure` of `trace`.
pub(crate) fn measure<E: TextEngine>(figure: TextFigure, trace: &Trace) -> Result<Outcome> {
    let outcome = match figure {
        TextFigure::Local => local::<E>(trace),
        TextFigure::Remote => remote::<E>(trace),
        TextFigure::Load => load::<E>(trace),
        TextFigure::Resume => resume::<E>(trace),
        TextFigure::Encoded => encoded::<E>(trace),
        TextFigure::Heap => memory::<E>(trace),
    }?;
    Ok(Outcome {
        size: trace.patch_count() as u64,
        ..outcome
    })
}

fn local<E: TextEngine>(trace: &Trace) -> Result<Outcome> {
    sample(
        trace.patch_count() as u64,
        || {
            let mut doc = E::new(1);
            replay(&mut doc, trace)?;
            Ok(doc)
        },
        |doc| check(&doc.text()?, trace),
    )
}

fn remote<E: TextEngine>(trace: &Trace) -> Result<Outcome> {
    let history = written::<E>(trace)?.history()?;
    sample(
        trace.patch_count() as u64,
        || {
            let mut doc = E::new(READER);
            doc.import(&history)?;
            let text = doc.text()?;
            Ok((doc, text))
        },
        |(_, text)| check(&text, trace),
    )
}

fn load<E: TextEngine>(trace: &Trace) -> Result<Outcome> {
    let stored = written::<E>(trace)?.encode()?;
    sample(
        trace.patch_count() as u64,
        || {
            let doc = E::load(&stored)?;
            let text = doc.text()?;
            Ok((doc, text))
        },
        |(_, text)| check(&text, trace),
    )
}

/// Reads the stored form, types a character and shows the text.
fn resume<E: TextEngine>(trace: &Trace) -> Result<Outcome> {
    let stored = written::<E>(trace)?.encode()?;
    let typed = Patch {
        at: 0,
        deleted: 0,
        inserted: "x",
    };
    sample(
        trace.patch_count() as u64,
        || {
            let mut doc = E::load(&stored)?;
            doc.edit(std::iter::once(typed))?;
            doc.finish()?;
            let text = doc.text()?;
            Ok((doc, text))
        },
        |(_, text)| check(text.strip_prefix('x').unwrap_or_default(), trace),
    )
}

fn encoded<E: TextEngine>(trace: &Trace) -> Result<Outcome> {
    let mut doc = written::<E>(trace)?;
    let mut bytes = 0;
    let outcome = sample(
        trace.patch_count() as u64,
        || doc.encode_small(),
        |stored| {
            bytes = stored.len() as u64;
            Ok(())
        },
    )?;
    Ok(Outcome {
        bytes: Some(bytes),
        ..outcome
    })
}

fn memory<E: TextEngine>(trace: &Trace) -> Result<Outcome> {
    let (doc, usage) = if trace.agents == 1 {
        heap::measure(|| {
            let mut doc = E::new(1);
            replay(&mut doc, trace).map(|()| doc)
        })
    } else {
        let messages = produce::<E>(trace, E::FORM)?;
        heap::measure(|| received(&messages))
    };
    check(&doc?.text()?, trace)?;
    Ok(Outcome {
        operations: trace.patch_count() as u64,
        heap: Some(usage),
        ..Outcome::default()
    })
}

/// One message per transaction, in the order of the trace, applied one by one; then the text.
pub(crate) fn messages<E: TextEngine>(form: Form, trace: &Trace) -> Result<Outcome> {
    let messages = produce::<E>(trace, form)?;
    let outcome = sample(
        messages.len() as u64,
        || {
            let doc: E = received(&messages)?;
            let text = doc.text()?;
            Ok((doc, text))
        },
        |(_, text)| check(&text, trace),
    )?;
    Ok(Outcome {
        size: trace.patch_count() as u64,
        ..outcome
    })
}

/// A replica that was sent `messages` one by one.
fn received<E: TextEngine>(messages: &[E::Message]) -> Result<E> {
    let mut doc = E::new(READER);
    for message in messages {
        doc.apply(message)?;
    }
    Ok(doc)
}

/// Makes all edits of a sequential trace.
fn replay<E: TextEngine>(doc: &mut E, trace: &Trace) -> Result<()> {
    for transaction in &trace.transactions {
        doc.edit(trace.patches(transaction))?;
    }
    doc.finish()
}

/// A document that holds all of `trace` and can tell its history.
fn written<E: TextEngine>(trace: &Trace) -> Result<E> {
    let mut doc;
    if trace.agents == 1 {
        doc = E::new(1);
        doc.keep_messages();
        replay(&mut doc, trace)?;
    } else {
        let messages = produce::<E>(trace, E::FORM)?;
        doc = E::new(READER);
        doc.keep_messages();
        doc.apply_all(messages.iter())?;
    }
    check(&doc.text()?, trace)?;
    Ok(doc)
}

/// Replays a concurrent trace with one replica for each author, which before each transaction is
/// brought exactly to the version its author saw, and returns the message of each transaction.
fn produce<E: TextEngine>(trace: &Trace, form: Form) -> Result<Vec<E::Message>> {
    let mut replicas: Vec<E> = (0..trace.agents)
        .map(|agent| E::new(1 + agent as u64))
        .collect();
    let mut known = vec![vec![0; trace.agents]; trace.agents];
    // By author, the places of their transactions in the trace.
    let mut written: Vec<Vec<usize>> = vec![Vec::new(); trace.agents];
    let mut messages: Vec<E::Message> = Vec::with_capacity(trace.transactions.len());
    replicas.iter_mut().for_each(E::keep_messages);
    for (number, transaction) in trace.transactions.iter().enumerate() {
        let agent = transaction.agent;
        let replica = &mut replicas[agent];
        let mut missing: Vec<usize> = Vec::new();
        for other in (0..trace.agents).filter(|other| *other != agent) {
            let unknown = known[agent][other]..transaction.seen[other];
            missing.extend_from_slice(&written[other][unknown]);
        }
        missing.sort_unstable();
        if !missing.is_empty() {
            replica.apply_all(missing.iter().map(|place| &messages[*place]))?;
        }
        known[agent].clone_from(&transaction.seen);
        known[agent][agent] += 1;
        replica.edit(trace.patches(transaction))?;
        messages.push(replica.take_message(form)?);
        written[agent].push(number);
    }
    Ok(messages)
}

fn check(text: &str, trace: &Trace) -> Result<()> {
    ensure(
        text == trace.end_content,
        "the text is not the one the trace ends with",
    )
}
