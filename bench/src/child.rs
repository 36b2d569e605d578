//! A measurement in a process of its own: starts this program again with a hidden subcommand and
//! one job, waits for the result, and ends it when it takes too long.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

/// Runs `job` under `subcommand` in a child process and returns what it printed, or why there is
/// nothing to return.
pub(crate) fn run<T: DeserializeOwned>(
    subcommand: &str,
    job: &str,
    limit: Duration,
) -> std::result::Result<T, String> {
    run_with(subcommand, job, limit, &[])
}

/// As [`run`], with these variables in the child's environment.
pub(crate) fn run_with<T: DeserializeOwned>(
    subcommand: &str,
    job: &str,
    limit: Duration,
    environment: &[(&str, &str)],
) -> std::result::Result<T, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("the path of this program is unknown: {error}"))?;
    let mut child = Command::new(program)
        .args([subcommand, job])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the process did not start: {error}"))?;
    let start = Instant::now();
    // Results are a few thousand bytes and fit the pipe, so reading can wait for the end.
    while matches!(child.try_wait(), Ok(None)) {
        if start.elapsed() > limit {
            let ended = child.kill().and_then(|()| child.wait());
            ended.map_err(|error| format!("the process could not be stopped: {error}"))?;
            return Err(format!("no result after {} s", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("the result could not be read: {error}"))?;
    if !output.status.success() {
        return Err(format!("the process ended with {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}
