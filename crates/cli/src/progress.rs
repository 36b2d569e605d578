//! A bar on stderr for what takes a while: only on a terminal, never when quiet.

use crate::session::Session;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that counts to `total` of `unit`, with its rate. It is gone when it is done; the note that
/// follows says what was done.
pub(crate) fn bar(session: &Session, what: &'static str, total: u64, unit: Unit) -> ProgressBar {
    let target = match session.out.quiet() {
        true => ProgressDrawTarget::hidden(),
        false => ProgressDrawTarget::stderr(),
    };
    let numbers = match unit {
        Unit::Bytes => "{bytes}/{total_bytes} {bytes_per_sec} {eta}",
        Unit::Items => "{human_pos}/{human_len} {per_sec:.0} {eta}",
    };
    let style = ProgressStyle::with_template(&format!("{{msg}} [{{bar:30}}] {numbers}"))
        .map_or_else(
            |_| ProgressStyle::default_bar(),
            |style| style.progress_chars("=> "),
        );
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
