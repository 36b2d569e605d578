//! Stdout for results, stderr for what was done; colour only where somebody looks at it.

use crate::failure::{Failure, Result};
use crate::object::Object;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

/// Where a command's words go.
#[derive(Debug)]
pub(crate) struct Out {
    stdout: BufWriter<Stdout>,
    json: bool,
    quiet: bool,
    out_paint: Paint,
    err_paint: Paint,
}

impl Out {
    /// Output as the global options ask for it.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self {
            stdout: BufWriter::with_capacity(1 << 16, io::stdout()),
            json,
            quiet,
            out_paint: Paint::new(io::stdout().is_terminal() && !json),
            err_paint: Paint::new(io::stderr().is_terminal()),
        }
    }

    /// True when each result is to be one JSON object.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// True when stderr is for errors only.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// Colours for stdout.
    pub(crate) fn paint(&self) -> Paint {
        self.out_paint
    }

    /// Colours for stderr.
    pub(crate) fn err_paint(&self) -> Paint {
        self.err_paint
    }

    /// A line of results.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<()> {
        writeln!(self.stdout, "{line}").map_err(|e| Failure::io("stdout", &e))
    }

    /// A result for a machine.
    pub(crate) fn object(&mut self, object: Object) -> Result<()> {
        self.line(object.finish())
    }

    /// Bytes of a result, as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdout
            .write_all(bytes)
            .map_err(|e| Failure::io("stdout", &e))
    }

    /// Hands over everything written so far.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.stdout.flush().map_err(|e| Failure::io("stdout", &e))
    }

    /// Says on stderr what was done. A closed stderr is nobody's problem.
    pub(crate) fn note(&mut self, note: impl Display) {
        if !self.quiet {
            let _ = self.stdout.flush();
            let note = self.err_paint.dim(&note.to_string());
            let _ = writeln!(io::stderr(), "{note}");
        }
    }

    /// A result that is an account of what was done: an object on stdout for machines, a note on
    /// stderr for people.
    pub(crate) fn done(
        &mut self,
        note: impl Display,
        object: impl FnOnce() -> Object,
    ) -> Result<()> {
        if self.json {
            self.object(object())?;
        }
        self.note(note);
        Ok(())
    }
}

/// Colours, or none: `NO_COLOR`, a dumb terminal and a pipe all mean none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint(bool);

impl Paint {
    fn new(terminal: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(terminal && !set("NO_COLOR") && !dumb)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}
