//! Stored lists: what was acknowledged is there after a restart, and copies come together.
#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use siltstone::Read;
use siltstone::blocking::{Database, Reader};
use siltstone::list::{Frontier, List, Session, Text, Values};
use siltstone::lists::{self, ListKind};
use siltstone::{Error, list};

fn open(dir: &tempfile::TempDir) -> Database {
    Database::open(dir.path().to_str().unwrap()).unwrap()
}

#[test]
fn edits_are_there_after_a_restart_with_their_history_and_in_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..4 {
        let db = open(&dir);
        let todo = db.lists().open_or_create_list("todo", "ann").unwrap();
        assert_eq!(todo.read(List::to_vec).unwrap(), expected);
        for i in 0..10 {
            let value = list::Value::from(round * 10 + i);
            let edited = todo.edit(|list| list.append(value.clone())).unwrap();
            assert!(edited.commit.is_some());
            expected.push(value);
        }
        // No close: the handles go, as in a process that dies.
    }
    let db = open(&dir);
    let todo = db.lists().list("todo", "ann").unwrap();
    assert_eq!(todo.read(List::to_vec).unwrap(), expected);
    // The author's session went on from process to process.
    assert_eq!(todo.read(List::run_lengths).unwrap(), [40]);
    assert_eq!(todo.stats().unwrap().transactions, 40);
    let third = todo
        .read(|list| list.at(&list.frontier_after(3)).unwrap().to_vec())
        .unwrap();
    assert_eq!(third, expected[..3]);
    assert_eq!(todo.edit(|list| list.delete(0..0)).unwrap().commit, None);
}

#[test]
fn a_document_takes_the_place_of_many_updates_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let text = db.lists().open_or_create_text("notes", "ann").unwrap();
    let line = "all work and no play makes a dull text. ".repeat(10);
    let mut most = 0;
    for i in 0..400 {
        text.edit(|text| text.insert_at_char(i * 3, &format!("{i}{line}")))
            .unwrap();
        most = most.max(text.stats().unwrap().update_bytes);
    }
    assert!(most < 200_000, "{most} bytes of updates");
    let (shown, encoded) = text
        .read(|text| (text.text(), text.encode().unwrap()))
        .unwrap();
    text.compact().unwrap();
    assert_eq!(text.stats().unwrap().updates, 0);
    drop(text);
    db.close().unwrap();
    let db = open(&dir);
    let text = db.lists().text("notes", "ann").unwrap();
    assert_eq!(text.read(Text::text).unwrap(), shown);
    assert_eq!(text.read(|text| text.encode().unwrap()).unwrap(), encoded);
    text.read(Text::check).unwrap().unwrap();
}

#[test]
fn two_databases_sync_and_a_reader_sees_it() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (open(&here), open(&there));
    let ann = a.lists().open_or_create_list("board", "ann").unwrap();
    let ben = b.lists().open_or_create_list("board", "ben").unwrap();
    ann.edit(|list| list.append("from ann".into())).unwrap();
    ben.edit(|list| list.append("from ben".into())).unwrap();
    let (came, went) = ann.sync_with(&ben).unwrap();
    assert_eq!((came.transactions, went.transactions), (1, 1));
    assert_eq!(
        ann.read(List::to_vec).unwrap(),
        ben.read(List::to_vec).unwrap()
    );
    // Again: nothing to do, no commit.
    let bytes = ann.missing_since(&Frontier::new()).unwrap();
    assert_eq!(ben.apply(&bytes).unwrap().commit, None);
    // What waits survives a restart, too.
    let mut far = List::new(Session::new("cat", 1));
    far.append(1.into()).unwrap();
    let first = far.frontier();
    far.append(2.into()).unwrap();
    assert_eq!(
        ben.apply(&far.missing_since(&first).unwrap())
            .unwrap()
            .value
            .pending,
        1
    );
    drop((ben, b));
    let b = open(&there);
    let ben = b.lists().list("board", "ben").unwrap();
    assert_eq!(ben.stats().unwrap().pending, 1);
    ben.apply(&far.missing_since(&Frontier::new()).unwrap())
        .unwrap();
    assert_eq!(ben.read(List::len).unwrap(), 4);
    let reader = Reader::open(there.path().to_str().unwrap()).unwrap();
    assert_eq!(lists::names(&reader), ["board"]);
    assert_eq!(lists::kind(&reader, "board").unwrap(), ListKind::List);
    assert_eq!(lists::read::<Values>(&reader, "board").unwrap().len(), 4);
}

#[test]
fn two_handles_share_what_they_show_and_each_writes_under_its_author() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let ann = db.lists().open_or_create_list("l", "ann").unwrap();
    let ben = db.lists().list("l", "ben").unwrap();
    ann.edit(|list| list.append(1.into())).unwrap();
    ben.edit(|list| list.append(2.into())).unwrap();
    assert_eq!(ann.read(List::len).unwrap(), 2);
    let authors = |position| {
        ann.read(|list| {
            list.edit_at(position)
                .unwrap()
                .id
                .session
                .author()
                .to_string()
        })
        .unwrap()
    };
    assert_eq!((authors(0), authors(1)), ("ann".into(), "ben".into()));
    // A refused edit leaves the transactions before it, in one commit, and says why.
    let refused = ann.edit(|list| {
        list.append(3.into())?;
        list.delete(9..10)
    });
    assert!(matches!(
        refused,
        Err(Error::List(list::Error::BadRange { .. }))
    ));
    drop((ann, ben, db));
    let db = open(&dir);
    assert_eq!(
        db.lists()
            .list("l", "ann")
            .unwrap()
            .read(List::len)
            .unwrap(),
        3
    );
}

#[test]
fn names_and_kinds_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let lists = db.lists();
    assert!(matches!(
        lists.list("a", "x"),
        Err(Error::UnknownList { .. })
    ));
    assert!(matches!(
        lists.open_or_create_list("", "x"),
        Err(Error::ListName { .. })
    ));
    let list = lists.open_or_create_list("a", "x").unwrap();
    assert!(matches!(lists.text("a", "x"), Err(Error::ListKind { .. })));
    drop(list);
    assert!(matches!(lists.text("a", "x"), Err(Error::ListKind { .. })));
    assert!(matches!(
        lists.open_or_create_text("a", "x"),
        Err(Error::ListKind { .. })
    ));
    assert_eq!(lists.names().unwrap(), [("a".to_string(), ListKind::List)]);
    lists.drop("a").unwrap();
    assert!(lists.names().unwrap().is_empty());
    let damaged = lists.open_or_create_list("d", "x").unwrap();
    damaged.edit(|list| list.append(1.into())).unwrap();
    drop(damaged);
    db.keyspace("list:d")
        .unwrap()
        .put(&[b'u', 0, 0, 0, 0, 0, 0, 0, 1], b"nonsense")
        .unwrap();
    assert!(matches!(
        lists.list("d", "x"),
        Err(Error::ListDamaged { .. })
    ));
}

/// What the transactions below write to: a keyspace, a tree, two lists and a text.
struct Everything {
    db: Database,
    rows: siltstone::blocking::Keyspace,
    tree: siltstone::blocking::Tree,
    todo: lists::StoredList,
    done: lists::StoredList,
    notes: lists::StoredText,
}

impl Everything {
    fn open(dir: &tempfile::TempDir) -> Self {
        let db = open(dir);
        let rows = db.default_keyspace().clone();
        let tree = match db.tree("world") {
            Ok(tree) => tree,
            Err(_) => db.create_tree("world", Default::default()).unwrap(),
        };
        let todo = db.lists().open_or_create_list("todo", "ann").unwrap();
        let done = db.lists().open_or_create_list("done", "ann").unwrap();
        let notes = db.lists().open_or_create_text("notes", "ann").unwrap();
        Self {
            db,
            rows,
            tree,
            todo,
            done,
            notes,
        }
    }

    /// Everything that can be seen.
    fn shown(&self) -> String {
        let row = self.rows.get(b"moved").unwrap();
        let tree = self.tree.find("moved").unwrap();
        let todo = self.todo.read(List::to_vec).unwrap();
        let done = self.done.read(List::to_vec).unwrap();
        let notes = self.notes.read(Text::text).unwrap();
        format!("{row:?} {tree:?} {todo:?} {done:?} {notes}")
    }

    /// Moves the first thing to do to what is done, and says so everywhere.
    fn finish_one(&self, refuse: bool) -> siltstone::Result<siltstone::Commit> {
        let transaction = self.db.begin(siltstone::Isolation::Serializable)?;
        let count = transaction.on(&self.rows).get(b"moved")?;
        let count = count.map_or(0, |count| count[0]) + 1;
        transaction.put(&self.rows, b"moved", &[count])?;
        let ((), commit) = self.db.lists().commit(&transaction, |lists| {
            let first = lists.edit(&self.todo, |todo| {
                let first = todo.get(0).map(std::borrow::Cow::into_owned);
                todo.delete(0..1)?;
                Ok(first)
            })?;
            lists.edit(&self.done, |done| done.append(first.into()))?;
            lists.edit(&self.notes, |notes| notes.append("one more. "))?;
            lists.edit(&self.notes, |notes| notes.append("it is noted. "))?;
            self.tree
                .on(lists.transaction())
                .set("moved", i64::from(count))?;
            if refuse {
                lists.edit(&self.todo, |todo| todo.delete(100..101))?;
            }
            Ok(())
        })?;
        Ok(commit)
    }
}

#[test]
fn one_transaction_over_keyspaces_trees_and_lists_is_one_commit_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let all = Everything::open(&dir);
    all.todo
        .edit(|todo| todo.append_items(vec!["sweep".into(), "wash".into(), "cook".into()]))
        .unwrap();
    let before = all.rows.put(b"before", b"x").unwrap().commit;
    let commit = all.finish_one(false).unwrap();
    assert_eq!(commit.0, before.0 + 1, "it is one commit");
    let after = all.shown();
    assert!(after.contains("[String(\"wash\"), String(\"cook\")] [String(\"sweep\")]"));
    assert!(after.ends_with("one more. it is noted. "));

    // An edit that is refused takes everything with it, the edits before it and the rows.
    assert!(matches!(all.finish_one(true), Err(Error::List(_))));
    assert_eq!(all.shown(), after);
    // So does a conflict, of which memory knew nothing when the lists were edited.
    let transaction = all.db.begin(siltstone::Isolation::Serializable).unwrap();
    assert!(transaction.on(&all.rows).get(b"moved").unwrap().is_some());
    all.rows.put(b"moved", &[1]).unwrap();
    let lost = all.db.lists().commit(&transaction, |lists| {
        lists.transaction().put(&all.rows, b"other", b"x")?;
        lists.edit(&all.todo, |todo| todo.append("lost".into()))
    });
    assert!(matches!(
        lost,
        Err(Error::Kv(siltstone::KvError::Conflict { .. }))
    ));
    assert_eq!(all.shown(), after);
    // The lists go on, and say the same after a restart.
    all.todo.edit(|todo| todo.append("rest".into())).unwrap();
    all.finish_one(false).unwrap();
    let after = all.shown();
    drop((all, transaction));
    assert_eq!(Everything::open(&dir).shown(), after);
}

#[test]
fn transactions_that_hold_lists_in_another_order_do_not_wait_for_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir);
    let [a, b] = ["a", "b"].map(|name| db.lists().open_or_create_list(name, "ann").unwrap());
    std::thread::scope(|scope| {
        for (first, second) in [(&a, &b), (&b, &a)] {
            let db = &db;
            scope.spawn(move || {
                for number in 0..50 {
                    let transaction = db.begin(siltstone::Isolation::Serializable).unwrap();
                    let commit = db.lists().commit(&transaction, |lists| {
                        lists.edit(first, |list| list.append(number.into()))?;
                        lists.edit(second, |list| list.prepend(number.into()))
                    });
                    commit.unwrap();
                }
            });
        }
        scope.spawn(|| {
            for number in 0..50 {
                a.edit(|list| list.append(number.into())).unwrap();
            }
        });
    });
    let lengths = [&a, &b].map(|list| list.read(List::len).unwrap());
    assert_eq!(lengths, [150, 100]);
    drop((a, b, db));
    let db = open(&dir);
    let lengths = ["a", "b"].map(|name| {
        let list = db.lists().list(name, "ann").unwrap();
        list.read(List::len).unwrap()
    });
    assert_eq!(lengths, [150, 100]);
}
