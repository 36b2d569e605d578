//! The engines that can take part, by name. To add one: a file here that implements
//! [`TextEngine`], [`ListEngine`] or both, its line in [`ALL`], and its arms below.

#[cfg(feature = "automerge")]
mod automerge;
#[cfg(feature = "cola")]
mod cola;
#[cfg(feature = "diamond-types")]
mod diamond_types;
mod floor;
#[cfg(feature = "loro")]
mod loro;
mod siltstone;
#[cfg(feature = "yrs")]
mod yrs;

use super::engine::{Form, ListEngine, Result, TextEngine};
use super::job::{Ability, Job, Outcome, Task};
use super::trace::Trace;
use super::{lists, text};
use crate::error::Error;

/// What is known of an engine without running it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    /// The name on the command line and in the results.
    pub(crate) name: &'static str,
    /// The cargo feature that builds it in; none if it always is.
    pub(crate) feature: Option<&'static str>,
    /// Whether this build has it.
    pub(crate) built: bool,
    /// What it can do.
    pub(crate) abilities: &'static [Ability],
    /// What a reader of the results should know, by workload.
    pub(crate) notes: &'static [(&'static str, &'static str)],
    /// Workloads in which it does less than is asked, so that it sets no bar.
    pub(crate) no_bar: &'static [&'static str],
}

/// Edits of a list for each message of the chat.
const CHAT_SHARE: usize = 5;
/// The engine that only runs if it is named; it never sets the bar.
pub(crate) const FLOOR: &str = "floor";
/// The engine that is compared; it never sets the bar.
pub(crate) const OWN: &str = "siltstone";

/// Every engine, in the order of the tables, whether built in or not.
pub(crate) const ALL: &[About] = &[
    About {
        name: OWN,
        feature: None,
        built: true,
        abilities: &[
            Ability::Text,
            Ability::Merge,
            Ability::Messages(Form::Bytes),
            Ability::Messages(Form::Objects),
            Ability::List,
            Ability::Share,
            Ability::Moves,
        ],
        notes: &[(
            "text_remote",
            "what it sends to a replica that has nothing is its stored form",
        )],
        no_bar: &[],
    },
    About {
        name: "diamond-types",
        feature: Some("diamond-types"),
        built: cfg!(feature = "diamond-types"),
        abilities: &[
            Ability::Text,
            Ability::Merge,
            Ability::Messages(Form::Bytes),
        ],
        notes: &[(
            "text_load",
            "the stored form is the history, so loading replays it",
        )],
        no_bar: &[],
    },
    About {
        name: "cola",
        feature: Some("cola"),
        built: cfg!(feature = "cola"),
        abilities: &[
            Ability::Text,
            Ability::Merge,
            Ability::Messages(Form::Objects),
        ],
        notes: &[
            (
                "text_remote",
                "operation objects one by one; nothing is decoded",
            ),
            ("text_load", "positions, and the text beside them"),
            (
                "text_encoded",
                "positions, and the text beside them; deleted text is not kept",
            ),
            ("text_heap", "with its rope"),
        ],
        no_bar: &["text_load", "text_encoded"],
    },
    About {
        name: "loro",
        feature: Some("loro"),
        built: cfg!(feature = "loro"),
        abilities: &[
            Ability::Text,
            Ability::Merge,
            Ability::Messages(Form::Bytes),
            Ability::List,
            Ability::Share,
        ],
        notes: &[
            ("text_local", "one commit at the end"),
            ("list_edit", "one commit at the end"),
        ],
        no_bar: &[],
    },
    About {
        name: "loro-movable",
        feature: Some("loro"),
        built: cfg!(feature = "loro"),
        abilities: &[Ability::List, Ability::Share, Ability::Moves],
        notes: &[
            ("list_edit", "one commit at the end"),
            ("list_kanban", "one commit at the end"),
        ],
        no_bar: &[],
    },
    About {
        name: "yrs",
        feature: Some("yrs"),
        built: cfg!(feature = "yrs"),
        abilities: &[
            Ability::Text,
            Ability::Merge,
            Ability::Messages(Form::Bytes),
            Ability::List,
            Ability::Share,
        ],
        notes: &[
            ("text_local", "one transaction for each of the trace"),
            (
                "text_encoded",
                "v2 format; deleted text and history are not kept",
            ),
            (
                "list_edit",
                "a transaction an edit; random places are quadratic, so fewer edits",
            ),
            ("list_to_vec", "random places are quadratic, so fewer edits"),
            ("list_get", "random places are quadratic, so fewer edits"),
            ("list_load", "random places are quadratic, so fewer edits"),
            (
                "list_encoded",
                "random places are quadratic, so fewer edits; history is not kept",
            ),
            ("list_heap", "random places are quadratic, so fewer edits"),
        ],
        no_bar: &["text_encoded", "list_encoded"],
    },
    About {
        name: "automerge",
        feature: Some("automerge"),
        built: cfg!(feature = "automerge"),
        abilities: &[
            Ability::Text,
            Ability::Merge,
            Ability::Messages(Form::Bytes),
            Ability::List,
            Ability::Share,
        ],
        notes: &[
            ("text_local", "one transaction"),
            ("list_edit", "one transaction"),
        ],
        no_bar: &[],
    },
    About {
        name: FLOOR,
        feature: None,
        built: true,
        abilities: &[Ability::Text, Ability::List, Ability::Moves],
        notes: &[],
        no_bar: &[],
    },
];

impl About {
    /// The engine called `name`, if this build has it.
    pub(crate) fn built(name: &str) -> crate::error::Result<&'static Self> {
        let found = ALL.iter().find(|about| about.name == name);
        match found {
            Some(about) if about.built => Ok(about),
            Some(about) => Err(Error::Usage(format!(
                "this build leaves out {name}; add --features {}",
                about.feature.unwrap_or("peers")
            ))),
            None => {
                let names: Vec<_> = ALL.iter().map(|about| about.name).collect();
                Err(Error::Usage(format!(
                    "there is no engine called {name} for lists (known: {})",
                    names.join(", ")
                )))
            }
        }
    }

    /// Whether it can do `task`.
    pub(crate) fn can(&self, task: &Task) -> bool {
        self.abilities.contains(&task.needs())
    }

    /// Whether others are measured by what it does in `workload`.
    pub(crate) fn is_bar(&self, workload: &str) -> bool {
        ![OWN, FLOOR].contains(&self.name) && !self.no_bar.contains(&workload)
    }

    /// What to say beside its results of `workload`.
    pub(crate) fn note(&self, workload: &str) -> Option<&'static str> {
        let found = self.notes.iter().find(|(named, _)| *named == workload);
        found.map(|(_, note)| *note)
    }
}

/// Runs `job` in this process.
pub(crate) fn run(job: &Job) -> crate::error::Result<Outcome> {
    let about = About::built(&job.engine)?;
    let name = job.task.trace();
    let trace = name
        .map(|name| Trace::read(&job.traces, name))
        .transpose()?;
    run_on(about, job, trace.as_ref())
}

/// Runs `job` on `trace`, if it is about one.
pub(crate) fn run_on(
    about: &About,
    job: &Job,
    trace: Option<&Trace>,
) -> crate::error::Result<Outcome> {
    let ran = match trace {
        Some(trace) => run_text(about.name, &job.task, trace),
        None => run_list(about.name, &job.task, job.size),
    };
    ran.map_err(|source| Error::Library {
        engine: about.name,
        workload: job.task.workload(),
        source,
    })
}

fn run_text(engine: &str, task: &Task, trace: &Trace) -> Result<Outcome> {
    match engine {
        OWN => text_task::<siltstone::Text>(task, trace),
        #[cfg(feature = "diamond-types")]
        "diamond-types" => text_task::<diamond_types::Text>(task, trace),
        #[cfg(feature = "cola")]
        "cola" => text_task::<cola::Text>(task, trace),
        #[cfg(feature = "loro")]
        "loro" => text_task::<loro::Text>(task, trace),
        #[cfg(feature = "yrs")]
        "yrs" => text_task::<yrs::Text>(task, trace),
        #[cfg(feature = "automerge")]
        "automerge" => text_task::<automerge::Text>(task, trace),
        FLOOR => text_task::<floor::Text>(task, trace),
        _ => Err("it has no texts".into()),
    }
}

fn run_list(engine: &str, task: &Task, size: usize) -> Result<Outcome> {
    match engine {
        OWN => list_task::<siltstone::List>(task, size),
        #[cfg(feature = "loro")]
        "loro" => list_task::<loro::List>(task, size),
        #[cfg(feature = "loro")]
        "loro-movable" => list_task::<loro::MovableList>(task, size),
        #[cfg(feature = "yrs")]
        "yrs" => list_task::<yrs::List>(task, size),
        #[cfg(feature = "automerge")]
        "automerge" => list_task::<automerge::List>(task, size),
        FLOOR => list_task::<floor::List>(task, size),
        _ => Err("it has no lists of values".into()),
    }
}

fn text_task<E: TextEngine>(task: &Task, trace: &Trace) -> Result<Outcome> {
    match task {
        Task::Text(figure, _) => text::measure::<E>(*figure, trace),
        Task::Messages(form) => text::messages::<E>(*form, trace),
        Task::List(..) | Task::Chat | Task::Kanban | Task::Subscriber(_) => {
            Err("this is a task for a list".into())
        }
    }
}

fn list_task<E: ListEngine>(task: &Task, size: usize) -> Result<Outcome> {
    match task {
        Task::List(figure, shape) => lists::measure::<E>(*figure, *shape, size),
        Task::Chat => lists::chat::<E>(size / CHAT_SHARE),
        Task::Kanban => lists::kanban::<E>(size),
        Task::Subscriber(subscriber) => lists::subscriber::<E>(*subscriber, size),
        Task::Text(..) | Task::Messages(_) => Err("this is a task for a text".into()),
    }
}
