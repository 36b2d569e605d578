//! Short runs of the simulation; long ones are made by the command.

use siltstone_sim::{Report, Settings, run};

fn run_seed(seed: u64, ops: u64, bucket: bool) -> Report {
    run(Settings { seed, ops, bucket }, |_| ()).unwrap_or_else(|difference| {
        panic!(
            "seed {seed}, step {}: {}\n{:#?}",
            difference.step, difference.what, difference.last
        )
    })
}

#[test]
fn s75_short_runs_of_several_seeds_show_no_difference() {
    let mut elsewhere = 0;
    for seed in 1..7 {
        let report = run_seed(seed, 6_000, seed % 2 == 0);
        assert!(report.commits > 1_000 && report.reopens > 5, "{report:?}");
        assert!(
            report.transactions > 10 && report.conflicts > 10,
            "{report:?}"
        );
        assert!(report.delivered > 500, "{report:?}");
        elsewhere += report.elsewhere;
    }
    assert!(elsewhere > 0);
}

#[test]
fn s75_the_same_seed_gives_the_same_run() {
    let first = run_seed(42, 4_000, false);
    assert_eq!(first, run_seed(42, 4_000, false));
    assert_ne!(first.trace, run_seed(43, 4_000, false).trace);
}
