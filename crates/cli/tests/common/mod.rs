//! Runs the real command and looks at what it says and how it ends.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// The command, without anything from the caller's environment that it would look at.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siltstone"));
    for name in [
        "SILTSTONE_DB",
        "SILTSTONE_DISK_CACHE",
        "SILTSTONE_DISK_CACHE_SIZE",
        "NO_COLOR",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        command.env_remove(name);
    }
    for name in [
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL",
        "AWS_REGION",
    ] {
        command.env_remove(name);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// It ended with this code; a failure is one clear line and never a panic.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self
    }

    /// It failed with this code and one line that says all of `words`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        let ran = self.code(code);
        let errors: Vec<_> = ran
            .err
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{ran:#?}");
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is not said in {ran:#?}");
        }
        ran
    }

    /// Stderr says all of `words`.
    #[track_caller]
    pub(crate) fn notes(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not said in {self:#?}");
        }
        self
    }

    /// Stdout is this.
    #[track_caller]
    pub(crate) fn says(self, out: &str) -> Self {
        assert_eq!(self.out, out, "{self:#?}");
        self
    }

    /// The lines of stdout as JSON.
    #[track_caller]
    pub(crate) fn objects(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| serde_json::from_str(line).expect("one object a line");
        self.out.lines().map(parse).collect()
    }
}

/// A folder with a database that may come to be in it.
#[derive(Debug)]
pub(crate) struct Db {
    pub(crate) dir: TempDir,
}

impl Db {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// A database with these keys, all of them with the value `v`.
    pub(crate) fn with(keys: &[&str]) -> Self {
        let db = Self::new();
        for key in keys {
            db.run(&["put", key, "v"]).ok();
        }
        db
    }

    pub(crate) fn url(&self) -> String {
        self.path("db").to_string_lossy().into_owned()
    }

    /// A path beside the database.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.arg("--db").arg(self.url()).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().expect("the command runs"))
    }

    /// Runs with `input` on stdin.
    pub(crate) fn feed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self.spawn(args);
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            // The command may end before it has read everything.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("the command runs");
        feeder.join().expect("feeding does not fail");
        Ran::of(output)
    }

    /// Starts with pipes.
    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        self.command(args)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the command starts")
    }

    /// The files in a folder of the database, in order.
    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        let path = Path::new(&self.url()).join(folder);
        let Ok(entries) = std::fs::read_dir(path) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        files
    }
}
