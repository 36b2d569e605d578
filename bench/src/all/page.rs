//! The page of all results: what machine, which versions, how to run it again, and a section for each
//! benchmark whose results are there.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{pictures, tables};
use crate::error::{Error, Result};

/// Versions of everything that is compared, as they are locked.
const LOCK: &str = include_str!("../../../Cargo.lock");
const PEERS: [&str; 11] = [
    "fjall",
    "surrealkv",
    "slatedb",
    "redb",
    "heed",
    "rocksdb",
    "diamond-types",
    "loro",
    "yrs",
    "automerge",
    "cola",
];

/// Rows as a picture.
type Draw = fn(&[Value]) -> Result<String>;

/// A section: its file of results, its heading, what is to be known about it, and how it is shown.
struct Section {
    name: &'static str,
    heading: &'static str,
    about: &'static str,
    table: fn(&[Value]) -> String,
    /// How its rows are drawn. A picture of more than rows is drawn when they are measured.
    picture: Option<Draw>,
}

const SECTIONS: [Section; 14] = [
    Section {
        name: "kv",
        heading: "Key-values",
        about: "1,000,000 entries of 16-byte keys in random order and 100-byte values unless the row says otherwise, memory budget \
                256 MiB, LZ4. The last column is the rate over that of the best log-structured peer of the same run: above 1 is ahead.",
        table: tables::kv,
        picture: Some(pictures::bars),
    },
    Section {
        name: "kv-keyspaces",
        heading: "Key-values in 64 keyspaces",
        about: "The same entries spread over 64 keyspaces by their keys; gets and scans stay within one.",
        table: tables::kv,
        picture: Some(pictures::bars),
    },
    Section {
        name: "kv-small",
        heading: "Small values, keys with common prefixes",
        about: "2,000,000 entries of 16 bytes; half of each key is one of 64 prefixes.",
        table: tables::kv,
        picture: Some(pictures::bars),
    },
    Section {
        name: "kv-large",
        heading: "Values of 1 KiB, a fifth of them in memory",
        about: "300,000 entries, memory budget 64 MiB.",
        table: tables::kv,
        picture: Some(pictures::bars),
    },
    Section {
        name: "kv-huge",
        heading: "Values of 64 KiB",
        about: "10,000 entries, memory budget 256 MiB.",
        table: tables::kv,
        picture: Some(pictures::bars),
    },
    Section {
        name: "kv-cold",
        heading: "A fifth of the data in memory",
        about: "4,000,000 entries of 116 bytes, memory budget 96 MiB. The page cache of the system holds the compressed tables of all.",
        table: tables::kv,
        picture: Some(pictures::bars),
    },
    Section {
        name: "bucket",
        heading: "Databases in a bucket",
        about: "An S3 server of the program's own that answers every request 20 ms later, beside SlateDB where both do the same. `In sequence` \
                are requests of which each waited for the one before.",
        table: tables::figures_by_workload,
        picture: None,
    },
    Section {
        name: "list",
        heading: "Lists and texts",
        about: "Process time, the least of several samples; the last column is the figure over the least of any library in the same row: 1 is the best.",
        table: tables::list,
        picture: None,
    },
    Section {
        name: "tree",
        heading: "Document trees",
        about: "Beside etcd where both do the same; else beside what is wanted.",
        table: tables::figures,
        picture: None,
    },
    Section {
        name: "ledger",
        heading: "Ledgers",
        about: "Beside `@fireproof/core` on Node where both do the same; else beside what is wanted.",
        table: tables::figures,
        picture: Some(pictures::ledger),
    },
    Section {
        name: "growth",
        heading: "Cost against data",
        about: "16-byte keys in random order, 16-byte values, memory budget 256 MiB: larger databases are read from the page cache, not from \
                the block cache. `compact` rewrites everything.",
        table: tables::growth,
        picture: Some(pictures::growth),
    },
    Section {
        name: "many",
        heading: "Many databases in one process",
        about: "Each opened, read once, written once and then left alone.",
        table: tables::many,
        picture: None,
    },
    Section {
        name: "soak",
        heading: "An hour of mixed load within 1 GiB",
        about: "Overwrites, deletions, batches and durable puts; gets of the newest state and of held snapshots; scans of 100. 4,000,000 \
                entries, budget 256 MiB. The process limits its own memory: one allocation beyond it would have ended it.",
        table: tables::soak,
        picture: None,
    },
    Section {
        name: "soak-small",
        heading: "The same within 256 MiB",
        about: "1,000,000 entries, budget 64 MiB.",
        table: tables::soak,
        picture: None,
    },
];

/// Writes the page from the results in the folder `results`, and its pictures into their folder.
pub(super) fn write(results: &Path, out: &Path) -> Result<()> {
    let pictures = out.with_extension("");
    let folder = pictures.file_name().unwrap_or_default().to_string_lossy();
    let mut text = head();
    for section in SECTIONS {
        let path = results.join(format!("{}.jsonl", section.name));
        let Some(rows) = read(&path)? else {
            continue;
        };
        let _ = write!(text, "\n## {}\n\n{}\n", section.heading, section.about);
        if let Ok(machine) = std::fs::read_to_string(machine_file(results, section.name)) {
            let _ = write!(text, "\nMeasured on {}.\n", machine.trim());
        }
        let _ = write!(text, "\n{}", (section.table)(&rows));
        let picture = format!("{}.svg", section.name);
        let drawn = pictures.join(&picture);
        if let Some(draw) = section.picture {
            std::fs::write(&drawn, draw(&rows)?)
                .map_err(|source| Error::io(format!("write {}", drawn.display()), source))?;
        }
        if drawn.exists() {
            let _ = write!(text, "\n![{}]({folder}/{picture})\n", section.heading);
        }
    }
    std::fs::write(out, text)
        .map_err(|source| Error::io(format!("write {}", out.display()), source))
}

/// The lines of a file of results; `None` when it is not there.
fn read(path: &Path) -> Result<Option<Vec<Value>>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io(format!("read {}", path.display()), source)),
        Ok(text) => text,
    };
    let line = |line: &str| {
        serde_json::from_str(line).map_err(|error| {
            Error::Usage(format!(
                "{} has a line that is no result: {error}",
                path.display()
            ))
        })
    };
    text.lines().map(line).collect::<Result<_>>().map(Some)
}

fn head() -> String {
    let mut text = String::from(
        "# Benchmarks\n\n\
         Written by `siltstone-bench all`; do not edit. The rows of one workload are of one run: they can be compared with each other, and not \
         with other rows or other machines. `bench/README.md` says what every workload does and how each engine is set up. Again:\n\n\
         ```sh\n\
         cargo run --release -p siltstone-bench --features peers -- all\n\
         cargo run --release -p siltstone-bench --features peers -- all --only kv,list\n\
         ```\n\n",
    );
    let peers: Vec<String> = PEERS
        .iter()
        .filter_map(|name| Some(format!("{name} {}", locked(LOCK, name)?)))
        .collect();
    let _ = writeln!(text, "Versions: {}.", peers.join(", "));
    text
}

/// The version of a crate in a lock file.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let entry = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock.split_once(&entry)?;
    rest.split('"').next()
}

/// Where it stands which machine a benchmark ran on, and when.
pub(super) fn machine_file(results: &Path, name: &str) -> PathBuf {
    results.join(format!("{name}.machine"))
}

/// This machine, in a line.
pub(super) fn machine() -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field(&file("/proc/cpuinfo"), "model name");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&file("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib >> 20);
    let kernel = file("/proc/sys/kernel/osrelease");
    format!(
        "{cores} cores of {}, {memory} GiB, Linux {}",
        processor.unwrap_or_else(|| "an unknown processor".into()),
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report, row::Row};

    #[test]
    fn versions_are_those_that_are_locked() {
        let lock = "[[package]]\nname = \"fjall-x\"\nversion = \"9\"\n\n[[package]]\nname = \"fjall\"\nversion = \"3.1.0\"\n";
        assert_eq!(locked(lock, "fjall"), Some("3.1.0"));
        assert_eq!(locked(lock, "nothing"), None);
    }

    #[test]
    fn a_page_has_the_sections_whose_results_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("results");
        std::fs::create_dir(&results).unwrap();
        std::fs::create_dir(folder.path().join("page")).unwrap();
        let out = folder.path().join("page.md");
        let row = Row {
            workload: "get_1".into(),
            engine: "siltstone".into(),
            ops_per_s: 1e6,
            ratio_to_best: Some(1.25),
            ..Row::default()
        };
        std::fs::write(results.join("kv.jsonl"), report::json_lines(&[row])).unwrap();
        std::fs::write(machine_file(&results, "kv"), "two cores\n").unwrap();
        write(&results, &out).unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        assert!(
            text.contains("## Key-values") && !text.contains("## Ledgers"),
            "{text}"
        );
        assert!(text.contains("| get_1 | siltstone | 1.00M/s |"), "{text}");
        assert!(text.contains("1.25x"), "{text}");
        assert!(text.contains("![Key-values](page/kv.svg)"), "{text}");
        let picture = std::fs::read_to_string(folder.path().join("page/kv.svg")).unwrap();
        assert!(picture.contains("1.00M"), "{picture}");
        assert!(text.contains("Measured on two cores."), "{text}");
        std::fs::write(results.join("kv.jsonl"), "no result").unwrap();
        assert!(
            write(&results, &out)
                .unwrap_err()
                .to_string()
                .contains("kv.jsonl")
        );
    }
}
