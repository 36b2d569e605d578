//! One measurement: which task on which engine, how it is passed to the process that runs it, and
//! what comes back.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::engine::Form;
use super::heap::Usage;
use super::script::Shape;
use super::trace;

/// What is measured, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Workload {
    /// Every patch of a trace, one by one.
    TextLocal,
    /// The whole history as one import into an empty document, then the text.
    TextRemote,
    /// One message per transaction, applied one by one, then the text.
    TextMessages,
    /// The stored document, then the text.
    TextLoad,
    /// The stored document, then a typed character, then the text.
    TextResume,
    /// Bytes of the stored document, and the time to make them.
    TextEncoded,
    /// Heap after the edits, and its peak.
    TextHeap,
    /// Edits of a list of JSON scalars.
    ListEdit,
    /// The whole list into memory.
    ListToVec,
    /// Elements at random places.
    ListGet,
    /// The stored list, then all of it in memory.
    ListLoad,
    /// Bytes of the stored list, and the time to make them.
    ListEncoded,
    /// Heap after the edits, and its peak.
    ListHeap,
    /// Eight writers append to replicas of their own and exchange at random.
    ListChat,
    /// Random moves of a thousand cards.
    ListKanban,
    /// Appends, each its own transaction, with a subscriber and without.
    ListSubscriber,
    /// Cost of an operation against the size of the list.
    Growth,
}

/// What is measured of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TextFigure {
    /// Replaying the edits.
    Local,
    /// Importing the history.
    Remote,
    /// Reading the stored form.
    Load,
    /// Reading the stored form and going on to edit.
    Resume,
    /// Bytes.
    Encoded,
    /// Memory.
    Heap,
}

/// What is measured of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ListFigure {
    /// Making the edits.
    Edit,
    /// Reading all elements.
    ToVec,
    /// Reading one element.
    Get,
    /// Reading the stored form.
    Load,
    /// Bytes.
    Encoded,
    /// Memory.
    Heap,
}

/// Whether someone listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subscriber {
    /// One subscriber.
    Attached,
    /// None.
    Detached,
}

/// One thing to measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// A figure of the trace of this name.
    Text(TextFigure, String),
    /// Messages of the concurrent trace in this form.
    Messages(Form),
    /// A figure of a list of this shape.
    List(ListFigure, Shape),
    /// See [`Workload::ListChat`].
    Chat,
    /// See [`Workload::ListKanban`].
    Kanban,
    /// See [`Workload::ListSubscriber`].
    Subscriber(Subscriber),
}

/// What an engine must be able to do for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ability {
    /// A text with a stored form and a history that can be imported.
    Text,
    /// Texts of several writers.
    Merge,
    /// Messages in this form.
    Messages(Form),
    /// A list of values with a stored form.
    List,
    /// Lists of several writers, and subscribers.
    Share,
    /// Moves.
    Moves,
}

impl Workload {
    /// Its tasks; those of growth are made where sizes are walked.
    pub(crate) fn tasks(self) -> Vec<Task> {
        let sequential = || trace::SEQUENTIAL.iter().copied();
        let all = || sequential().chain([trace::CONCURRENT]);
        let texts = |figure, names: &mut dyn Iterator<Item = &'static str>| {
            names
                .map(|name| Task::Text(figure, name.to_owned()))
                .collect()
        };
        let lists = |figure, shapes: &[Shape]| {
            shapes
                .iter()
                .map(|shape| Task::List(figure, *shape))
                .collect()
        };
        let three = [Shape::Append, Shape::Random, Shape::Mixed];
        match self {
            Self::TextLocal => texts(TextFigure::Local, &mut sequential()),
            Self::TextRemote => texts(TextFigure::Remote, &mut all()),
            Self::TextLoad => texts(TextFigure::Load, &mut all()),
            Self::TextResume => texts(TextFigure::Resume, &mut all()),
            Self::TextEncoded => texts(TextFigure::Encoded, &mut all()),
            Self::TextHeap => texts(TextFigure::Heap, &mut all()),
            Self::TextMessages => vec![Task::Messages(Form::Bytes), Task::Messages(Form::Objects)],
            Self::ListEdit => lists(ListFigure::Edit, Shape::value_variants()),
            Self::ListToVec => lists(ListFigure::ToVec, &three),
            Self::ListGet => lists(ListFigure::Get, &three),
            Self::ListLoad => lists(ListFigure::Load, &three),
            Self::ListEncoded => lists(ListFigure::Encoded, &three),
            Self::ListHeap => lists(ListFigure::Heap, &three),
            Self::ListChat => vec![Task::Chat],
            Self::ListKanban => vec![Task::Kanban],
            Self::ListSubscriber => vec![
                Task::Subscriber(Subscriber::Detached),
                Task::Subscriber(Subscriber::Attached),
            ],
            Self::Growth => Vec::new(),
        }
    }
}

impl TextFigure {
    fn workload(self) -> &'static str {
        match self {
            Self::Local => "text_local",
            Self::Remote => "text_remote",
            Self::Load => "text_load",
            Self::Resume => "text_resume",
            Self::Encoded => "text_encoded",
            Self::Heap => "text_heap",
        }
    }
}

impl ListFigure {
    fn workload(self) -> &'static str {
        match self {
            Self::Edit => "list_edit",
            Self::ToVec => "list_to_vec",
            Self::Get => "list_get",
            Self::Load => "list_load",
            Self::Encoded => "list_encoded",
            Self::Heap => "list_heap",
        }
    }

    /// The name of its curve.
    pub(crate) fn growth(self) -> &'static str {
        match self {
            Self::Edit => "growth_edit",
            Self::ToVec => "growth_to_vec",
            Self::Get => "growth_get",
            Self::Load => "growth_load",
            Self::Encoded => "growth_encoded",
            Self::Heap => "growth_heap",
        }
    }
}

impl Task {
    /// The name of the workload in the results.
    pub(crate) fn workload(&self) -> &'static str {
        match self {
            Self::Text(figure, _) => figure.workload(),
            Self::Messages(_) => "text_messages",
            Self::List(figure, _) => figure.workload(),
            Self::Chat => "list_chat",
            Self::Kanban => "list_kanban",
            Self::Subscriber(_) => "list_subscriber",
        }
    }

    /// What it runs on, in the results.
    pub(crate) fn input(&self) -> &str {
        match self {
            Self::Text(_, trace) => trace,
            Self::Messages(form) => form.name(),
            Self::List(_, shape) => shape.name(),
            Self::Chat => "8 writers",
            Self::Kanban => "1,000 cards",
            Self::Subscriber(Subscriber::Attached) => "attached",
            Self::Subscriber(Subscriber::Detached) => "detached",
        }
    }

    /// The trace it is about.
    pub(crate) fn trace(&self) -> Option<&str> {
        match self {
            Self::Text(_, trace) => Some(trace),
            Self::Messages(_) => Some(trace::CONCURRENT),
            Self::List(..) | Self::Chat | Self::Kanban | Self::Subscriber(_) => None,
        }
    }

    /// What it asks of an engine.
    pub(crate) fn needs(&self) -> Ability {
        match self {
            Self::Text(_, trace) if trace == trace::CONCURRENT => Ability::Merge,
            Self::Text(..) => Ability::Text,
            Self::Messages(form) => Ability::Messages(*form),
            Self::List(..) => Ability::List,
            Self::Chat | Self::Subscriber(_) => Ability::Share,
            Self::Kanban => Ability::Moves,
        }
    }
}

/// Everything the process that runs one measurement needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What to measure.
    pub(crate) task: Task,
    /// The name of the engine.
    pub(crate) engine: String,
    /// Edits of a list.
    pub(crate) size: usize,
    /// The folder of the traces.
    pub(crate) traces: PathBuf,
}

/// What one job measured. Absent figures do not apply to the task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Edits behind it; fewer than asked for if the engine is too slow for all.
    pub(crate) size: u64,
    /// Operations that a sample is of.
    pub(crate) operations: u64,
    /// Processor time of an operation, by sample.
    pub(crate) ns_per_op: Vec<f64>,
    /// Bytes of the stored form.
    pub(crate) bytes: Option<u64>,
    /// Memory.
    pub(crate) heap: Option<Usage>,
}
