//! Histories with one anomaly each: the checker has to name it, or the other tests prove nothing.

use crate::history::{Did, Recorder, explained};
use Did::{Append, List, Register, Write};
use adya::{Valid, Workload};

/// Transactions that all overlap, each by its own process.
fn together(transactions: &[Vec<Did>]) -> Recorder {
    let mut history = Recorder::default();
    for (process, did) in transactions.iter().enumerate() {
        let writes = did
            .iter()
            .filter(|did| matches!(did, Append(..) | Write(..)));
        history.invoke(process as i64, writes.cloned().collect());
    }
    for (process, did) in transactions.iter().enumerate() {
        history.ok(process as i64, did.clone(), Some(process as u64 + 1));
    }
    history
}

fn found(history: &Recorder, workload: Workload, model: &str, anomaly: &str) {
    let report = history.check(workload, model);
    assert_eq!(report.valid, Valid::False, "{anomaly} passes for {model}");
    assert!(
        report.anomaly_types.iter().any(|found| found == anomaly),
        "{anomaly} was taken for {:?}: {}",
        report.anomaly_types,
        explained(&report)
    );
}

fn lists(transactions: &[Vec<Did>], model: &str, anomaly: &str) {
    found(
        &together(transactions),
        Workload::ListAppend,
        model,
        anomaly,
    );
}

#[test]
fn g0_a_cycle_of_writes() {
    let history = [
        vec![Append(1, 1), Append(2, 1)],
        vec![Append(1, 2), Append(2, 2)],
        vec![List(1, vec![1, 2]), List(2, vec![2, 1])],
    ];
    lists(&history, "snapshot-isolation", "G0");
    lists(&history, "serializable", "G0");
}

#[test]
fn g1a_a_read_of_what_was_rolled_back() {
    let mut history = Recorder::default();
    history.invoke(0, vec![Append(1, 1)]);
    history.fail(0, vec![Append(1, 1)]);
    history.invoke(1, vec![]);
    history.ok(1, vec![List(1, vec![1])], None);
    found(&history, Workload::ListAppend, "snapshot-isolation", "G1a");
}

#[test]
fn g1b_a_read_of_an_intermediate_state() {
    let history = [
        vec![Append(1, 1), Append(1, 2)],
        vec![List(1, vec![1])],
        vec![List(1, vec![1, 2])],
    ];
    lists(&history, "snapshot-isolation", "G1b");
}

#[test]
fn g1c_a_circle_of_information() {
    let history = [
        vec![Append(1, 1), List(2, vec![1])],
        vec![Append(2, 1), List(1, vec![1])],
    ];
    lists(&history, "snapshot-isolation", "G1c");
}

#[test]
fn g_single_a_read_of_half_a_transaction() {
    let history = [
        vec![Append(1, 1), Append(2, 1)],
        vec![List(1, vec![1]), List(2, vec![])],
        vec![List(1, vec![1]), List(2, vec![1])],
    ];
    lists(&history, "snapshot-isolation", "G-single-item");
}

#[test]
fn g2_item_write_skew_is_forbidden_to_serializable_only() {
    let history = [
        vec![List(1, vec![]), List(2, vec![]), Append(1, 1)],
        vec![List(1, vec![]), List(2, vec![]), Append(2, 1)],
        vec![List(1, vec![1]), List(2, vec![1])],
    ];
    lists(&history, "serializable", "G2-item");
    let history = together(&history);
    history.expect(Workload::ListAppend, "snapshot-isolation", "write skew");
}

#[test]
fn lost_update_two_transactions_build_on_the_same_read() {
    // Of two that read nothing and append, each must have gone before the other.
    let history = [
        vec![List(1, vec![]), Append(1, 1)],
        vec![List(1, vec![]), Append(1, 2)],
        vec![List(1, vec![1, 2])],
    ];
    // By its name in models that name it, and as what it is in snapshot isolation: a single
    // anti-dependency in a cycle.
    lists(&history, "repeatable-read", "lost-update");
    lists(&history, "snapshot-isolation", "G-single-item");
    let registers = [
        vec![Register(1, None), Write(1, 1)],
        vec![Register(1, None), Write(1, 2)],
    ];
    let history = together(&registers);
    found(
        &history,
        Workload::RwRegister,
        "repeatable-read",
        "lost-update",
    );
    let report = history.check(Workload::RwRegister, "snapshot-isolation");
    assert_eq!(report.valid, Valid::False);
}

#[test]
fn a_stale_read_is_serializable_but_not_strictly() {
    let mut history = Recorder::default();
    history.invoke(0, vec![Append(1, 1)]);
    history.ok(0, vec![Append(1, 1)], Some(1));
    history.invoke(1, vec![]);
    history.ok(1, vec![List(1, vec![])], None);
    history.invoke(2, vec![]);
    history.ok(2, vec![List(1, vec![1])], None);
    history.expect(Workload::ListAppend, "serializable", "stale");
    for model in ["strict-serializable", "strong-snapshot-isolation"] {
        let report = history.check(Workload::ListAppend, model);
        assert_eq!(report.valid, Valid::False, "{model}");
    }
}

#[test]
fn a_commit_of_unknown_outcome_may_or_may_not_be_read() {
    for read in [vec![], vec![1]] {
        let mut history = Recorder::default();
        history.invoke(0, vec![Append(1, 1)]);
        history.unknown(0, vec![Append(1, 1)]);
        history.invoke(1, vec![]);
        history.ok(1, vec![List(1, read)], None);
        history.expect(Workload::ListAppend, "strict-serializable", "unknown");
    }
}
