//! One line of results.

use serde::Serialize;

use super::job::Outcome;

/// What one task measured on one engine, over all rounds. Absent figures do not apply.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Row {
    /// The workload.
    pub(crate) workload: String,
    /// The trace, the shape of the list, or what else it ran on.
    pub(crate) input: String,
    /// The library.
    pub(crate) engine: String,
    /// Edits of the list or trace; fewer than asked for if the engine is too slow for all.
    pub(crate) size: u64,
    /// Operations that a sample is of.
    pub(crate) operations: u64,
    /// Samples of processor time taken, over all rounds.
    pub(crate) samples: u64,
    /// Processor time of all operations, the least of all samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms_min: Option<f64>,
    /// The same, the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms_median: Option<f64>,
    /// The least, an operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ns_per_op: Option<f64>,
    /// Bytes of the stored form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoded_bytes: Option<u64>,
    /// Heap bytes live after the edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heap_bytes: Option<u64>,
    /// Most heap bytes live at one time during the edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) heap_peak_bytes: Option<u64>,
    /// The figure (live heap, else bytes, else processor time) over the least of any peer on the
    /// same input and size: 1 is equal, less is better.
    pub(crate) ratio_to_least: Option<f64>,
    /// What a reader should know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Row {
    /// A row of what the rounds of one task gave.
    pub(crate) fn new((workload, input, engine): (&str, &str, &str), outcomes: &[Outcome]) -> Self {
        let (size, operations) = outcomes
            .first()
            .map_or((0, 0), |outcome| (outcome.size, outcome.operations));
        let mut samples: Vec<f64> = outcomes
            .iter()
            .flat_map(|outcome| outcome.ns_per_op.iter().copied())
            .collect();
        samples.sort_by(f64::total_cmp);
        let ms = |ns_per_op: f64| ns_per_op * operations as f64 / 1e6;
        let median = samples.get(samples.len().saturating_sub(1) / 2).copied();
        let heap = outcomes.iter().filter_map(|outcome| outcome.heap);
        Self {
            workload: workload.to_owned(),
            input: input.to_owned(),
            engine: engine.to_owned(),
            size,
            operations,
            samples: samples.len() as u64,
            cpu_ms_min: samples.first().copied().map(ms),
            cpu_ms_median: median.map(ms),
            cpu_ns_per_op: samples.first().copied(),
            encoded_bytes: outcomes.iter().filter_map(|outcome| outcome.bytes).min(),
            heap_bytes: heap.clone().map(|usage| usage.live_bytes).min(),
            heap_peak_bytes: heap.map(|usage| usage.peak_bytes).min(),
            ..Self::default()
        }
    }

    /// The figure that the workload is about.
    pub(crate) fn figure(&self) -> Option<f64> {
        let bytes = self.heap_bytes.or(self.encoded_bytes);
        bytes.map(|bytes| bytes as f64).or(self.cpu_ns_per_op)
    }

    /// Whether it is a point of a growth curve, of which there is one for each size.
    pub(crate) fn is_growth(&self) -> bool {
        self.workload.starts_with("growth_")
    }

    fn same_task(&self, other: &Self) -> bool {
        (&self.workload, &self.input) == (&other.workload, &other.input)
    }
}

/// Fills in the ratios of all `rows`; `is_bar` says which set the bar. One that made fewer edits than
/// others has no ratio.
pub(crate) fn fill_ratios(rows: &mut [Row], is_bar: impl Fn(&Row) -> bool) {
    let all = rows.to_vec();
    for row in rows {
        let task = || all.iter().filter(|other| other.same_task(row));
        let is_cut = !row.is_growth() && task().any(|other| other.size > row.size);
        let least = task()
            .filter(|bar| is_bar(bar) && bar.size == row.size && !is_cut)
            .filter_map(Row::figure)
            .reduce(f64::min);
        row.ratio_to_least = match (row.figure(), least) {
            (Some(own), Some(least)) if least > 0.0 => Some(own / least),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(engine: &str, size: u64, samples: &[f64]) -> Row {
        let outcome = Outcome {
            size,
            operations: 1_000_000,
            ns_per_op: samples.to_vec(),
            ..Outcome::default()
        };
        Row::new(("w", "i", engine), &[outcome])
    }

    #[test]
    fn least_and_median_are_over_all_samples() {
        let row = row("a", 1, &[3.0, 9.0, 2.0]);
        assert_eq!((row.cpu_ms_min, row.cpu_ms_median), (Some(2.0), Some(3.0)));
        assert_eq!((row.cpu_ns_per_op, row.samples), (Some(2.0), 3));
    }

    #[test]
    fn ratios_are_to_the_least_bar_on_the_same_input_and_size() {
        let mut rows = [
            row("bar", 2, &[4.0]),
            row("slow", 2, &[8.0]),
            row("own", 2, &[1.0]),
            row("cut", 1, &[1.0]),
        ];
        fill_ratios(&mut rows, |row| row.engine != "own");
        let ratios: Vec<_> = rows.iter().map(|row| row.ratio_to_least).collect();
        assert_eq!(ratios, [Some(1.0), Some(2.0), Some(0.25), None]);
    }
}
