//! What clients asked and what came back, in the order in which it happened.

use adya::history::{Interner, Mop, Op, OpType, ReadValue, Scalar};
use adya::{History, Opts, Report, Valid, Workload, check};
use std::collections::HashMap;

/// One step of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Did {
    Append(i64, i64),
    Write(i64, i64),
    /// A read of a list.
    List(i64, Vec<i64>),
    /// A read of a register.
    Register(i64, Option<i64>),
    /// A read whose answer is not known, or that never happened.
    Read(i64),
}

#[derive(Debug, Clone)]
struct Event {
    kind: OpType,
    process: i64,
    did: Vec<Did>,
    commit: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Recorder(Vec<Event>);

impl Recorder {
    pub(crate) fn invoke(&mut self, process: i64, planned: Vec<Did>) {
        self.push(OpType::Invoke, process, planned, None);
    }

    /// Committed; `commit` is its number when it wrote.
    pub(crate) fn ok(&mut self, process: i64, did: Vec<Did>, commit: Option<u64>) {
        self.push(OpType::Ok, process, did, commit);
    }

    /// Certainly not committed.
    pub(crate) fn fail(&mut self, process: i64, planned: Vec<Did>) {
        self.push(OpType::Fail, process, planned, None);
    }

    /// Committed or not.
    pub(crate) fn unknown(&mut self, process: i64, planned: Vec<Did>) {
        self.push(OpType::Info, process, planned, None);
    }

    fn push(&mut self, kind: OpType, process: i64, did: Vec<Did>, commit: Option<u64>) {
        let event = Event {
            kind,
            process,
            did,
            commit,
        };
        self.0.push(event);
    }

    pub(crate) fn committed(&self) -> usize {
        self.0.iter().filter(|e| e.kind == OpType::Ok).count()
    }

    pub(crate) fn unknowns(&self) -> usize {
        self.0.iter().filter(|e| e.kind == OpType::Info).count()
    }

    /// The verdict on a history of lists or registers.
    pub(crate) fn check(&self, workload: Workload, model: &str) -> Report {
        let mut interner = Interner::default();
        let mut id = |n: i64| interner.intern(Scalar::Int(n));
        let mut ops = Vec::new();
        let mut order = HashMap::new();
        for (index, event) in self.0.iter().enumerate() {
            let mut value = Vec::new();
            for did in &event.did {
                value.push(match did {
                    Did::Append(key, element) => Mop::Append {
                        key: id(*key),
                        value: id(*element),
                    },
                    Did::Write(key, written) => Mop::Write {
                        key: id(*key),
                        value: id(*written),
                    },
                    Did::List(key, found) => Mop::Read {
                        key: id(*key),
                        value: ReadValue::List(found.iter().map(|n| id(*n)).collect()),
                    },
                    Did::Register(key, found) => Mop::Read {
                        key: id(*key),
                        value: found.map_or(ReadValue::Nil, |n| ReadValue::Scalar(id(n))),
                    },
                    Did::Read(key) => Mop::Read {
                        key: id(*key),
                        value: ReadValue::Nil,
                    },
                });
            }
            if let Some(commit) = event.commit {
                order.insert(index as u64, commit as i64);
            }
            ops.push(Op {
                index: index as u64,
                kind: event.kind,
                process: Some(event.process),
                value,
                time: None,
            });
        }
        // Registers hide their history: the commit numbers tell it, when all of them are known;
        // else what can be known from the order in time.
        let known = self.unknowns() == 0;
        let options = Opts {
            models: vec![model.into()],
            transaction_order: known.then_some(order),
            linearizable_keys: !known,
            // By the clock on the wall: on a busy machine one second is not enough.
            timeout: std::time::Duration::from_secs(300),
            ..Opts::default()
        };
        check(&History::from_ops(ops, interner), workload, &options)
    }

    /// Fails when the history is not what `model` allows.
    pub(crate) fn expect(&self, workload: Workload, model: &str, what: &str) {
        let report = self.check(workload, model);
        let idle = report.anomaly_types == ["empty-transaction-graph"];
        assert!(
            report.valid == Valid::True || idle,
            "{what}: not {model}: {:?}\n{}",
            report.anomaly_types,
            explained(&report)
        );
    }
}

pub(crate) fn explained(report: &Report) -> String {
    let all = report.anomalies.values().flatten();
    let all: Vec<_> = all.map(|anomaly| anomaly.explanation.clone()).collect();
    all.join("\n")
}
