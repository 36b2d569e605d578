//! One line of results of `tree` and `ledger`: a figure, what is wanted of it, and whether it is there.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
    /// So many times the peer's or more.
    TimesPeer(f64),
    /// At most this part of the peer's.
    PartOfPeer(f64),
    /// Only shown.
    None,
}

/// One figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The workload.
    pub(crate) workload: String,
    /// What of it.
    pub(crate) figure: String,
    /// Whose.
    pub(crate) engine: String,
    /// The figure.
    pub(crate) value: f64,
    /// Its unit.
    pub(crate) unit: String,
    /// Median of the single operations, where they were timed, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p50_us: Option<f64>,
    /// What 99 % of them stay below.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) p99_us: Option<f64>,
    /// The figure over the peer's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) ratio_to_peer: Option<f64>,
    /// What is wanted.
    pub(crate) goal: Goal,
    /// Rounds it is the median of.
    pub(crate) rounds: u64,
}

impl Row {
    pub(crate) fn new(
        workload: &str,
        figure: impl Into<String>,
        engine: &str,
        value: f64,
        unit: &str,
        goal: Goal,
    ) -> Self {
        Self {
            workload: workload.to_owned(),
            figure: figure.into(),
            engine: engine.to_owned(),
            value,
            unit: unit.to_owned(),
            p50_us: None,
            p99_us: None,
            ratio_to_peer: None,
            goal,
            rounds: 1,
        }
    }

    pub(crate) fn with_latency(mut self, p50_us: f64, p99_us: f64) -> Self {
        (self.p50_us, self.p99_us) = (Some(p50_us), Some(p99_us));
        self
    }

    /// Whether the goal is met, if there is one that can be told.
    fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtLeast(least) => Some(self.value >= least),
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::TimesPeer(times) => self.ratio_to_peer.map(|ratio| ratio >= times),
            Goal::PartOfPeer(part) => self.ratio_to_peer.map(|ratio| ratio <= part),
            Goal::None => None,
        }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} ({}): {} {}",
            self.figure,
            self.engine,
            number(self.value),
            self.unit
        )
    }
}

/// The medians of each figure over the rounds, the lower of the two middle ones.
pub(crate) fn medians(rounds: &[Vec<Row>]) -> Vec<Row> {
    let first = rounds.first().cloned().unwrap_or_default();
    let of = |row: &Row| -> Vec<&Row> {
        let all = rounds.iter().flatten();
        all.filter(|other| {
            (&other.workload, &other.figure, &other.engine)
                == (&row.workload, &row.figure, &row.engine)
        })
        .collect()
    };
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len().saturating_sub(1) / 2).copied()
    };
    let median = |row: Row| {
        let same = of(&row);
        Row {
            value: middle(same.iter().map(|row| row.value).collect()).unwrap_or(row.value),
            p50_us: middle(same.iter().filter_map(|row| row.p50_us).collect()),
            p99_us: middle(same.iter().filter_map(|row| row.p99_us).collect()),
            rounds: same.len() as u64,
            ..row
        }
    };
    first.into_iter().map(median).collect()
}

/// Fills in the ratios to the peer, where both figures are more than nothing: the first that is not
/// Siltstone in one of its settings.
pub(crate) fn compare(rows: &mut [Row]) {
    let peers: Vec<Row> = rows
        .iter()
        .filter(|row| !row.engine.starts_with("siltstone"))
        .cloned()
        .collect();
    for row in rows {
        let same = |peer: &&Row| peer.workload == row.workload && peer.figure == row.figure;
        let ratio = |peer: &Row| {
            let told = row.value > 0.0 && peer.value > 0.0;
            told.then(|| row.value / peer.value)
        };
        row.ratio_to_peer = peers.iter().find(same).and_then(ratio);
    }
}

/// All rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut workload = "";
    for row in rows {
        if row.workload != workload {
            workload = &row.workload;
            let _ = writeln!(text, "\n{workload}");
        }
        let latency = match (row.p50_us, row.p99_us) {
            (Some(p50), Some(p99)) => format!("p50 {} us, p99 {} us", number(p50), number(p99)),
            _ => String::new(),
        };
        let ratio = row
            .ratio_to_peer
            .map_or_else(String::new, |ratio| format!("{}x", number(ratio)));
        let goal = match row.goal {
            Goal::AtLeast(least) => format!("at least {}", number(least)),
            Goal::AtMost(most) => format!("at most {}", number(most)),
            Goal::TimesPeer(times) => format!("at least {times}x"),
            Goal::PartOfPeer(part) => format!("at most {part}x"),
            Goal::None => String::new(),
        };
        let met = match row.is_met() {
            Some(true) => "met",
            Some(false) => "short",
            None => "",
        };
        let _ = writeln!(
            text,
            "  {:<52} {:<20} {:>9} {:<5} {ratio:>6}  {latency:<28} {goal:<18} {met}",
            row.figure,
            row.engine,
            number(row.value),
            row.unit
        );
    }
    text
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2}M", v / 1e6),
        v if v >= 1e5 => format!("{:.0}k", v / 1e3),
        v if v >= 1e4 => format!("{:.1}k", v / 1e3),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(engine: &str, value: f64) -> Row {
        Row::new("w", "f", engine, value, "/s", Goal::TimesPeer(2.0))
    }

    #[test]
    fn medians_are_of_the_same_figure_and_goals_are_judged_by_the_ratio() {
        let round = |own, peer| vec![row("siltstone", own), row("etcd", peer)];
        let mut rows = medians(&[round(10.0, 4.0), round(90.0, 5.0), round(30.0, 6.0)]);
        compare(&mut rows);
        assert_eq!((rows[0].value, rows[1].value), (30.0, 5.0));
        assert_eq!((rows[0].ratio_to_peer, rows[0].rounds), (Some(6.0), 3));
        assert_eq!(rows[0].is_met(), Some(true));
        assert_eq!(row("siltstone", 1.0).is_met(), None);
    }

    #[test]
    fn another_setting_of_ours_is_no_peer_and_nothing_has_no_ratio() {
        let mut rows = vec![
            row("siltstone", 3.0),
            row("siltstone-disk-cache", 1.0),
            row("slatedb", 2.0),
        ];
        compare(&mut rows);
        let ratios: Vec<_> = rows.iter().map(|row| row.ratio_to_peer).collect();
        assert_eq!(ratios, [Some(1.5), Some(0.5), Some(1.0)]);
        for (own, peer) in [(1.0, 0.0), (0.0, 1.0), (-1.0, 2.0)] {
            let mut rows = vec![row("siltstone", own), row("slatedb", peer)];
            compare(&mut rows);
            assert_eq!(rows[0].ratio_to_peer, None);
        }
    }
}
