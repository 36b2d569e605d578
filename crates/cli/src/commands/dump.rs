//! `siltstone dump`: looks into one file, of the database or lying around.

use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use crate::units::{bytes, count, line_text, plural, time};
use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use siltstone::{Blobs, Location, TableMeta, inspect};
use siltstone_kv::DbState;
use siltstone_storage::{LocalBlobs, Numbered};
use std::path::Path;
use std::sync::Arc;

/// Which kind of file.
#[derive(Debug, Subcommand)]
pub(crate) enum DumpCommand {
    /// The list of live tables, keyspaces and checkpoints
    Manifest(FileArgs),
    /// Records of the log
    Wal(FileArgs),
    /// Entries of a table
    Sst(FileArgs),
    /// What a blob file says about itself; its values have no keys, tables point to them
    Blob(FileArgs),
}

/// The file.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// A path, a name as the database uses it (sst/....sst), or a number; the newest if left out
    file: Option<String>,
}

pub(crate) fn run(command: &DumpCommand, session: &mut Session) -> Result<()> {
    match command {
        DumpCommand::Manifest(args) => manifest(&find(args, Kind::MANIFEST, session)?, session),
        DumpCommand::Wal(args) => wal(&find(args, Kind::WAL, session)?, session),
        DumpCommand::Sst(args) => table(&find(args, Kind::SST, session)?, session),
        DumpCommand::Blob(args) => blob_file(&find(args, Kind::BLOB, session)?, session),
    }
}

/// How a kind of file is named.
struct Kind {
    folder: &'static str,
    suffix: &'static str,
    digits: usize,
}

impl Kind {
    const MANIFEST: Self = Self {
        folder: "manifest",
        suffix: "manifest",
        digits: 20,
    };
    const WAL: Self = Self {
        folder: "wal",
        suffix: "wal",
        digits: 20,
    };
    const BLOB: Self = Self {
        folder: "blob",
        suffix: "blob",
        digits: 16,
    };
    const SST: Self = Self {
        folder: "sst",
        suffix: "sst",
        digits: 16,
    };
}

/// A file and the store it is in.
struct Found {
    blobs: Arc<dyn Blobs>,
    name: String,
}

fn find(args: &FileArgs, kind: Kind, session: &Session) -> Result<Found> {
    let prefix = format!("{}/", kind.folder);
    let Some(file) = &args.file else {
        let blobs = Location::parse(session.url())?.blobs()?;
        let listed = blobs.list(&prefix)?.into_iter();
        let mut names: Vec<_> = listed.map(|blob| blob.name).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        // A log file is made before it is needed, and is empty till then.
        let is_empty = |name: &String| kind.folder == Kind::WAL.folder && is_empty(&*blobs, name);
        let filled = names.iter().find(|name| !is_empty(name));
        let name = filled.or(names.first()).cloned().ok_or_else(|| {
            Failure::Other(format!("{}: it has no {prefix}* files", session.url()))
        })?;
        return Ok(Found { blobs, name });
    };
    let path = Path::new(file);
    if path.is_file() {
        return beside(path, &kind);
    }
    if let Some((folder, _)) = file.split_once('/')
        && folder != kind.folder
    {
        return Err(Failure::Usage(format!(
            "{file}: is not in {prefix}; look into it with `dump {folder} {file}`"
        )));
    }
    let digits = kind.digits;
    let name = match file.strip_prefix(&prefix).unwrap_or(file) {
        number if number.bytes().all(|b| b.is_ascii_hexdigit()) => {
            format!("{prefix}{number:0>digits$}.{}", kind.suffix)
        }
        name => format!("{prefix}{name}"),
    };
    Ok(Found {
        blobs: Location::parse(session.url())?.blobs()?,
        name,
    })
}

/// True for a log file without a record.
fn is_empty(blobs: &dyn Blobs, name: &str) -> bool {
    let mut records = 0;
    inspect::wal(blobs, name, |_| records += 1).is_ok() && records == 0
}

/// A path on this machine: the store is the folder above the file's own.
fn beside(path: &Path, kind: &Kind) -> Result<Found> {
    let full = path
        .canonicalize()
        .map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    let folder = full.parent().filter(|folder| folder.ends_with(kind.folder));
    let (Some(root), Some(file)) = (folder.and_then(Path::parent), full.file_name()) else {
        return Err(Failure::Usage(format!(
            "{}: put it into a folder called {} first: its name there says what it is",
            path.display(),
            kind.folder
        )));
    };
    Ok(Found {
        blobs: Arc::new(LocalBlobs::existing(root)?),
        name: format!("{}/{}", kind.folder, file.to_string_lossy()),
    })
}

fn manifest(found: &Found, session: &mut Session) -> Result<()> {
    let manifest = inspect::manifest(&*found.blobs, &found.name)?;
    let state = &manifest.state;
    if session.out.json() {
        return manifest_objects(&manifest, session);
    }
    let retired = state.tables.retired().count() as u64;
    session.out.line(format_args!(
        "{}: number {}, epoch {}, commit {} at least, log from file {}",
        found.name, manifest.number, manifest.epoch, state.head, state.wal_floor
    ))?;
    for keyspace in &state.keyspaces {
        let options = &keyspace.options;
        let window = match options.history.window {
            u64::MAX => "all commits readable".to_string(),
            n => format!("{} readable", plural(n, "commit", "commits")),
        };
        session.out.line(format_args!(
            "keyspace {} {:?}: flushed to {}, dropped to {}, {window}, {:?}, {} filter bits",
            keyspace.id.0,
            keyspace.name,
            keyspace.flushed,
            keyspace.dropped.newest(),
            options.compression,
            options.filter_bits
        ))?;
    }
    for checkpoint in &state.checkpoints {
        let until = checkpoint
            .expires
            .map_or("for good".into(), |at| format!("until {}", time(at)));
        session.out.line(format_args!(
            "checkpoint {:?}: commit {} {until}",
            checkpoint.name, checkpoint.commit
        ))?;
    }
    for segment in state.tables.live() {
        let meta = &segment.meta;
        let summary = match segment.id.is_blob_file() {
            true => format!(
                "keyspace {} {} {}",
                meta.keyspace.0,
                bytes(meta.bytes),
                plural(meta.entries, "value", "values")
            ),
            false => summary(meta),
        };
        session
            .out
            .line(format_args!("{}  {summary}", segment.id))?;
    }
    session.out.note(format!(
        "{} live, {} replaced and waiting to be deleted",
        plural(state.tables.live().len() as u64, "table", "tables"),
        count(retired)
    ));
    Ok(())
}

/// An object for the manifest itself, then one for each thing it lists.
fn manifest_objects(manifest: &Numbered<DbState>, session: &mut Session) -> Result<()> {
    let state = &manifest.state;
    let kind = |kind: &str| Object::default().field("kind", kind);
    session.out.object(
        kind("manifest")
            .field("number", &manifest.number)
            .field("epoch", &manifest.epoch)
            .field("head", &state.head)
            .field("wal_floor", &state.wal_floor),
    )?;
    for keyspace in &state.keyspaces {
        session.out.object(kind("keyspace").fields(keyspace))?;
    }
    for checkpoint in &state.checkpoints {
        session.out.object(kind("checkpoint").fields(checkpoint))?;
    }
    for segment in state.tables.live() {
        let meta = &segment.meta;
        session.out.object(
            kind(match segment.id.is_blob_file() {
                true => "blob_file",
                false => "table",
            })
            .field("name", &segment.id.to_string())
            .field("keyspace", &meta.keyspace)
            .field("level", &meta.level)
            .field("bytes", &meta.bytes)
            .text("min_key", &meta.min_key)
            .text("max_key", &meta.max_key)
            .field("min_commit", &meta.min_commit)
            .field("max_commit", &meta.max_commit)
            .field("entries", &meta.entries)
            .field("tombstones", &meta.tombstones)
            .field("keys", &meta.keys)
            .field("raw_bytes", &meta.raw_bytes)
            .field("blocks", &meta.blocks)
            .field("created", &time(meta.created)),
        )?;
    }
    for id in state.tables.retired() {
        session
            .out
            .object(kind("retired").field("name", &id.to_string()))?;
    }
    Ok(())
}

fn summary(meta: &TableMeta) -> String {
    format!(
        "keyspace {} L{} {} {} commits {}..={} keys {}..={}",
        meta.keyspace.0,
        meta.level,
        bytes(meta.bytes),
        plural(meta.entries, "entry", "entries"),
        meta.min_commit,
        meta.max_commit,
        short(&meta.min_key),
        short(&meta.max_key),
    )
}

/// The start of a key, quoted.
fn short(key: &[u8]) -> String {
    let text = line_text(key);
    match text.char_indices().nth(24) {
        Some((cut, _)) => format!("\"{}…\"", &text[..cut]),
        None => format!("\"{text}\""),
    }
}

fn wal(found: &Found, session: &mut Session) -> Result<()> {
    let mut records = 0;
    let mut failed = None;
    let intact = inspect::wal(&*found.blobs, &found.name, |record| {
        records += 1;
        let printed = session_wal(&record, session);
        failed = failed.take().or(printed.err());
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let size = found.blobs.open(&found.name)?.size();
    session.out.note(format!(
        "{}: {}, {} of {} bytes intact (a log file may end in zeros or in a torn record)",
        found.name,
        plural(records, "record", "records"),
        count(intact),
        count(size)
    ));
    Ok(())
}

fn session_wal(record: &inspect::WalRecord, session: &mut Session) -> Result<()> {
    if !session.out.json() {
        session.out.line(format_args!(
            "at {}: commits {}..={}, {}",
            record.offset,
            record.first,
            record.last,
            time(record.time)
        ))?;
    }
    for write in &record.writes {
        entry(write, session)?;
    }
    Ok(())
}

fn entry(entry: &inspect::RawEntry, session: &mut Session) -> Result<()> {
    if session.out.json() {
        return session.out.object(entry_object(entry));
    }
    let (kind, key) = (kind_word(entry.kind), line_text(&entry.key));
    let mut rest = match (&entry.in_blob, entry.operands(), &entry.value) {
        (Some(place), ..) => format!(
            "{} in {} at {}",
            plural(place.bytes, "byte", "bytes"),
            place.file,
            place.at
        ),
        (_, Some(operands), _) => {
            let operands: Vec<_> = operands.into_iter().map(line_text).collect();
            operands.join("\t")
        }
        (_, _, Some(value)) => line_text(value),
        (_, _, None) => String::new(),
    };
    if let Some(expires) = entry.expires {
        rest += &format!("\tuntil {}", time(expires));
    }
    let commit = entry.commit.to_string();
    let line = format!(
        "{:>3} {commit:>10}  {kind:<12}  {key}\t{rest}",
        entry.keyspace.0
    );
    session.out.line(line.trim_end())
}

fn kind_word(kind: inspect::Kind) -> &'static str {
    match kind {
        inspect::Kind::Put => "put",
        inspect::Kind::Delete => "delete",
        inspect::Kind::Merge => "merge",
        inspect::Kind::RangeDelete => "range_delete",
        inspect::Kind::Ingested => "ingested",
    }
}

fn entry_object(entry: &inspect::RawEntry) -> Object {
    let object = Object::default()
        .field("keyspace", &entry.keyspace)
        .field("commit", &entry.commit)
        .field("kind", &entry.kind)
        .text("key", &entry.key);
    let object = match (entry.kind, &entry.in_blob, entry.operands()) {
        (_, Some(place), _) => object.field("in_blob", place),
        (_, _, Some(operands)) => {
            let operands = operands.into_iter().map(|operand| {
                let object = Object::default().value(Some(operand)).finish();
                RawValue::from_string(object).expect("an object is JSON")
            });
            object.field("operands", &operands.collect::<Vec<_>>())
        }
        (inspect::Kind::RangeDelete | inspect::Kind::Ingested, ..) => {
            object.text("to", entry.value.as_deref().unwrap_or_default())
        }
        _ => object.value(entry.value.as_deref()),
    };
    match entry.expires {
        Some(at) => object.field("expires", &time(at)),
        None => object,
    }
}

fn blob_file(found: &Found, session: &mut Session) -> Result<()> {
    let info = inspect::blob_file(&*found.blobs, &found.name)?;
    if session.out.json() {
        let object = Object::default()
            .field("name", &found.name)
            .field("values", &info.values)
            .field("bytes", &info.bytes);
        return session.out.object(object);
    }
    session.out.line(format_args!(
        "{}: {} in {}; the tables that point to them have their keys",
        found.name,
        plural(info.values, "value", "values"),
        bytes(info.bytes)
    ))
}

fn table(found: &Found, session: &mut Session) -> Result<()> {
    let mut failed = None;
    let meta = inspect::table(found.blobs.clone(), &found.name, |raw| {
        if failed.is_none() {
            failed = entry(&raw, session).err();
        }
        // Nobody listens any more: no need to read on.
        match failed {
            Some(_) => Err(siltstone_kv::Error::Cancelled {
                what: "printing a table",
            }),
            None => Ok(()),
        }
    });
    if let Some(failure) = failed {
        return Err(failure);
    }
    let meta = meta?;
    session.out.note(format!(
        "{}: {}, {} of keys and values, {}, {}, written {}",
        found.name,
        summary(&meta),
        bytes(meta.raw_bytes),
        plural(meta.blocks, "block", "blocks"),
        plural(meta.tombstones, "tombstone", "tombstones"),
        time(meta.created)
    ));
    Ok(())
}
