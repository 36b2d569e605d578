//! `siltstone backup`: a repository of backups, in a folder or in a bucket.

use crate::commands::clone::refuse_itself;
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::progress::{Unit, bar};
use crate::session::Session;
use crate::units::{bytes, duration, plural};
use clap::{Args, Subcommand};
use siltstone::blocking::Backups;
use siltstone::{Commit, Timestamp};

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "A repository is a folder, s3://bucket/prefix, gs://... or az://... Each backup copies only what\nno earlier one has, and each can be restored by itself."
)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Back up the database, also while it is read
    Create {
        /// The repository; made when it is not there
        repository: String,
        /// What to call this backup
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List the backups of a repository
    List {
        /// The repository
        repository: String,
    },
    /// Make a database from a backup
    Restore {
        /// The repository
        repository: String,
        /// Where to: nothing may be there yet
        to: String,
        /// The backup's number; the newest by default
        #[arg(long, value_name = "N")]
        backup: Option<u64>,
        /// With the contents at this commit; the newest in the backup by default
        #[arg(long, value_name = "COMMIT")]
        at: Option<u64>,
    },
    /// Read every block of every file of a backup, or of all
    Verify {
        /// The repository
        repository: String,
        /// The backup's number; all by default
        #[arg(long, value_name = "N")]
        backup: Option<u64>,
    },
    /// Delete a backup, and the files that no other backup needs
    Remove {
        /// The repository
        repository: String,
        /// The backup's number
        number: u64,
    },
}

pub(crate) fn run(args: &BackupArgs, session: &mut Session) -> Result<()> {
    match &args.command {
        BackupCommand::Create { repository, label } => create(repository, label, session),
        BackupCommand::List { repository } => list(repository, session),
        BackupCommand::Restore {
            repository,
            to,
            backup,
            at,
        } => restore(repository, to, *backup, at.map(Commit), session),
        BackupCommand::Verify { repository, backup } => verify(repository, *backup, session),
        BackupCommand::Remove { repository, number } => {
            let freed = Backups::open(repository)?.remove(*number)?;
            let note = format!("removed backup {number}; {} freed", bytes(freed));
            session.out.done(note, || {
                Object::default()
                    .field("number", number)
                    .field("freed_bytes", &freed)
            })
        }
    }
}

fn create(repository: &str, label: &str, session: &mut Session) -> Result<()> {
    refuse_itself(repository, session)?;
    let db = session.writer()?;
    let progress = bar(session, "copying files", 0, Unit::Items);
    let stats = Backups::create_at(repository)?.create(&db, label, |done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    db.close()?;
    let note = format!(
        "backup {} holds everything up to commit {}; {} copied, {} there already, {}, {}",
        stats.number,
        stats.commit,
        plural(stats.copied_files, "file", "files"),
        stats.kept_files,
        bytes(stats.bytes),
        duration(stats.latency),
    );
    session.out.done(note, || {
        Object::default()
            .field("repository", repository)
            .fields(&stats)
    })
}

fn list(repository: &str, session: &mut Session) -> Result<()> {
    let all = Backups::open(repository)?.list()?;
    if session.out.json() {
        for backup in &all {
            session.out.object(Object::default().fields(backup))?;
        }
        return Ok(());
    }
    for backup in &all {
        session.out.line(format!(
            "{:>4}  {}  commit {}  {} in {}  {}",
            backup.number,
            day_and_time(backup.created),
            backup.commit,
            bytes(backup.bytes),
            plural(backup.files, "file", "files"),
            backup.label,
        ))?;
    }
    session
        .out
        .note(plural(all.len() as u64, "backup", "backups"));
    Ok(())
}

fn day_and_time(time: Timestamp) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_micros(time.0);
    humantime::format_rfc3339_seconds(time).to_string()
}

fn restore(
    repository: &str,
    to: &str,
    backup: Option<u64>,
    at: Option<Commit>,
    session: &mut Session,
) -> Result<()> {
    let progress = bar(session, "copying files", 0, Unit::Items);
    let stats = Backups::open(repository)?.restore(backup, at, to, |done, of| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    let note = format!(
        "{to}: a database from backup {} with the contents at commit {}; {}, {}, {}",
        stats.number,
        stats.commit,
        plural(stats.files, "file", "files"),
        bytes(stats.bytes),
        duration(stats.latency),
    );
    session
        .out
        .done(note, || Object::default().field("to", to).fields(&stats))
}

fn verify(repository: &str, backup: Option<u64>, session: &mut Session) -> Result<()> {
    let backups = Backups::open(repository)?;
    let numbers = match backup {
        Some(number) => vec![number],
        None => backups.list()?.iter().map(|backup| backup.number).collect(),
    };
    let mut problems = 0;
    for number in numbers {
        let progress = bar(session, "reading files", 0, Unit::Items);
        let report = backups.verify(Some(number), |done, of| {
            progress.set_length(of as u64);
            progress.set_position(done as u64);
        })?;
        progress.finish_and_clear();
        problems += report.problems.len();
        let shown = if session.out.json() {
            &[][..]
        } else {
            &report.problems
        };
        for problem in shown {
            session.out.line(format!("backup {number}: {problem}"))?;
        }
        let what = match report.problems.len() {
            0 => "all is well".to_string(),
            n => plural(n as u64, "problem", "problems"),
        };
        let note = format!(
            "backup {number}: {}, {}, {}: {what}",
            plural(report.tables, "table", "tables"),
            plural(report.entries, "entry", "entries"),
            bytes(report.bytes),
        );
        session.out.done(note, || {
            Object::default().field("number", &number).fields(&report)
        })?;
    }
    match problems {
        0 => Ok(()),
        _ => Err(Failure::Damage(format!(
            "{} in {repository}; the database itself may still be whole: make a new backup elsewhere",
            plural(problems as u64, "problem", "problems")
        ))),
    }
}
