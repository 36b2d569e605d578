//! A bar on stderr for what takes a while: only on a terminal, never when quiet.

use crate::session::Session;
use crate::units::count;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;

/// A bar that counts to `total` of `unit`, with its rate.
pub(crate) fn bar(session: &Session, what: &'static str, total: u64, unit: Unit) -> ProgressBar {
    let target = match session.out.quiet() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let numbers = match unit {
        Unit::Bytes => "{bytes}/{total_bytes} {bytes_per_sec} {eta}",
        Unit::Items => "{human_pos}/{human_len} {rate} {eta}",
    };
    let rate = |state: &ProgressState, to: &mut dyn Write| {
        let _ = write!(to, "{}/s", count(state.per_sec() as u64));
    };
    let style = ProgressStyle::with_template(&format!("{{msg}} [{{bar:30}}] {numbers}"))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate)
        .progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(Some(total), target).with_style(style);
    bar.set_message(what);
    bar
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Items,
}
