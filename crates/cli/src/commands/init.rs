//! `siltstone init`: creates a database.

use crate::commands::settings::Settings;
use crate::failure::{Failure, Result};
use crate::object::Object;
use crate::session::Session;
use clap::Args;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(args: &InitArgs, session: &mut Session) -> Result<()> {
    let there = session.exists()?;
    if there && args.settings != Settings::default() {
        return Err(Failure::Other(format!(
            "{}: there is a database already, with settings of its own; nothing was changed",
            session.url()
        )));
    }
    if !there {
        session.create(args.settings.options()?)?.close()?;
    }
    let url = session.url().to_string();
    let note = match there {
        true => format!("{url}: there is a database already; nothing was changed"),
        false => format!("{url}: created an empty database"),
    };
    session.out.done(note, || {
        Object::default()
            .field("db", &url)
            .field("created", &!there)
    })
}
