//! What the embedded store has answered is on disk.
//!
//! A process that is killed while it writes loses nothing that it was told is written;
//! a directory that can't be used is refused by name; the store behaves as a map.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use midge_core::entry::Entry;
use midge_core::key::{Key, ShieldTarget};
use midge_store::{Backend, KeyKind, StoreError, StoreSettings, StoreUrl, Write, Written};
use midge_testkit::until;
use proptest::prelude::*;

/// Names the directory in which a child of this test writes until it is killed.
const CHILD: &str = "MIDGE_TEST_WRITES_TO";

fn open(directory: &Path) -> Result<Box<dyn Backend>, StoreError> {
    let url: StoreUrl = format!("file:{}", directory.display()).parse().unwrap();
    midge_store::open(&url, &StoreSettings::default())
}

fn refusal(directory: &Path) -> String {
    match open(directory) {
        Ok(_) => panic!("{} should not do", directory.display()),
        Err(StoreError::Refused(text)) => {
            assert!(text.contains(&directory.display().to_string()), "which directory? {text}");
            text
        }
        Err(other) => panic!("an operator has to act: {other}"),
    }
}

fn user(name: &str) -> Key {
    Key::User(name.parse().unwrap())
}

fn set(key: Key, field: &str, value: &str) -> Write {
    Write::SetFields(key, vec![(field.as_bytes().to_vec(), value.as_bytes().to_vec())])
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    assert!(refusal(dir.path()).contains("in use"), "{}", refusal(dir.path()));
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn what_is_no_directory_to_write_in_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).contains("not a directory"));
    assert!(refusal(&file.join("below")).contains("can't be made"));
    // Nobody may make anything here, not even root.
    refusal(Path::new("/proc/midge"));
    refusal(Path::new("/proc/self"));
    let taken = dir.path().join("taken");
    fs::create_dir_all(taken.join("midge.redb")).unwrap();
    assert!(refusal(&taken).contains("midge.redb"));
    if !rustix::process::geteuid().is_root() {
        let read_only = dir.path().join("read-only");
        fs::create_dir(&read_only).unwrap();
        fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(refusal(&read_only).contains("midge.redb"));
    }
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    for (what, damage) in [
        ("other content", (|bytes| bytes.fill(b'x')) as fn(&mut Vec<u8>)),
        ("a text", |bytes| *bytes = b"hello".to_vec()),
        ("a half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("a lost header", |bytes| bytes[..4096].fill(0)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        let many: Vec<Write> = (0..2_000).map(|n| set(user(&format!("u{n}")), "password", "secret")).collect();
        store.connect().unwrap().write(&many).unwrap();
        drop(store);
        let file = dir.path().join("midge.redb");
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        assert!(refusal(dir.path()).contains("midge.redb"), "{what}");
        assert!(fs::read(&file).unwrap() == bytes, "{what}: nobody has written to it");
    }
}

#[test]
fn nobody_else_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, mode) = (dir.path().join("a/b"), |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777);
    drop(open(&directory).unwrap());
    assert_eq!(mode(&directory), 0o700);
    let file = directory.join("midge.redb");
    assert_eq!(mode(&file), 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&directory).unwrap());
    assert_eq!(mode(&file), 0o600);
}

/// Does nothing by itself: [`a_killed_process_loses_nothing_that_was_answered`] runs it as a child.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&directory)).unwrap();
    let mut store = store.connect().unwrap();
    let mut out = std::io::stdout().lock();
    for n in 0_u64.. {
        let number = n.to_string();
        let both = [set(user("a"), "n", &number), set(user("b"), "n", &number), set(user(&format!("u{n}")), "n", &number)];
        assert!(store.write(&both).unwrap().iter().all(|written| matches!(written, Written::Count(_))));
        writeln!(out, "\nanswered {n}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut least = 0;
    for round in 1..=5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut answered = None;
        for line in lines {
            answered = line.unwrap().strip_prefix("answered ").map(|n| n.parse::<u64>().unwrap()).or(answered);
            if answered == Some(20 * round) {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let answered = answered.expect("the child has written");
        least = least.max(answered);
        let store = open(dir.path()).unwrap();
        let mut store = store.connect().unwrap();
        let number = |entry: &Entry| match entry {
            Entry::Hash(fields) => std::str::from_utf8(&fields[0].1).unwrap().parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        };
        let read = store.read(&[user("a"), user("b")]).unwrap();
        assert!(number(&read[0]) >= answered, "{read:?} after {answered}");
        assert_eq!(number(&read[0]), number(&read[1]), "one batch counts as one");
        let all: Vec<Key> = (0..=least).map(|n| user(&format!("u{n}"))).collect();
        for (n, entry) in store.read(&all).unwrap().iter().enumerate() {
            assert_eq!(number(entry), n as u64);
        }
    }
}

#[test]
fn what_has_ended_leaves_the_disk_when_more_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let shield = |n: usize| Key::Shield(ShieldTarget::User(format!("guess{n}").parse().unwrap()));
    let raw = |dir: &Path| {
        let file = dir.join("midge.redb");
        let copy = dir.join("copy");
        fs::copy(file, &copy).unwrap();
        let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("entries");
        let database = redb::Database::open(copy).unwrap();
        let read = redb::ReadableDatabase::begin_read(&database).unwrap();
        redb::ReadableTableMetadata::len(&read.open_table(table).unwrap()).unwrap()
    };
    {
        let store = open(dir.path()).unwrap();
        let mut store = store.connect().unwrap();
        let brief: Vec<Write> = (0..1_000).map(|n| Write::Increment { key: shield(n), ttl: Duration::from_millis(1) }).collect();
        store.write(&brief).unwrap();
        store.write(&[Write::SetText { key: Key::Ban("user:x".parse().unwrap()), value: vec![1], ttl: None }]).unwrap();
        store.write(&[set(user("kept"), "a", "1")]).unwrap();
        until("the end of all counters", Duration::from_secs(20), || {
            Ok((store.read(&[shield(999)]).unwrap() == [Entry::Missing]).then_some(()))
        })
        .unwrap();
        // Each looks at a few more than itself, so a fraction of the writes that made them cleans up after them.
        for n in 0..300 {
            store.write(&[Write::Increment { key: shield(5_000 + n), ttl: Duration::from_secs(3600) }]).unwrap();
        }
    }
    let left = raw(dir.path());
    assert!((302..=310).contains(&left), "{left} keys are left");
    let store = open(dir.path()).unwrap();
    let read = store.connect().unwrap().read(&[user("kept"), Key::Ban("user:x".parse().unwrap())]).unwrap();
    assert!(read.iter().all(|entry| *entry != Entry::Missing));
}

/// A write as the model makes it.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, Vec<(u8, u8)>),
    Unset(u8, Vec<u8>),
    Remove(u8),
    Text(u8, u8),
    Count(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6_u8;
    prop_oneof![
        3 => (key.clone(), prop::collection::vec((0..5_u8, any::<u8>()), 1..4)).prop_map(|(key, fields)| Step::Set(key, fields)),
        2 => (key.clone(), prop::collection::vec(0..5_u8, 1..4)).prop_map(|(key, fields)| Step::Unset(key, fields)),
        1 => key.clone().prop_map(Step::Remove),
        1 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Text(key, value)),
        1 => key.prop_map(Step::Count),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Model {
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    Text(Vec<u8>),
}

/// Even numbers are users, which hold hashes; odd ones are counters, which hold strings.
fn key_of(key: u8) -> Key {
    match key % 2 {
        0 => user(&format!("k{key}")),
        _ => Key::Shield(ShieldTarget::User(format!("k{key}").parse().unwrap())),
    }
}

impl Step {
    fn write(&self) -> Option<Write> {
        let ttl = Duration::from_secs(3600);
        Some(match self {
            Self::Set(key, fields) => {
                Write::SetFields(key_of(*key), fields.iter().map(|(field, value)| (vec![*field], vec![*value])).collect())
            }
            Self::Unset(key, fields) => Write::RemoveFields(key_of(*key), fields.iter().map(|field| vec![*field]).collect()),
            Self::Remove(key) => Write::Remove(key_of(*key)),
            Self::Text(key, value) => Write::SetText { key: key_of(*key), value: value.to_string().into(), ttl: None },
            Self::Count(key) => Write::Increment { key: key_of(*key), ttl },
            Self::Reopen => return None,
        })
    }

    /// Makes the change of `model`; returns what a store has to answer, or `None` for a failure.
    fn apply(&self, model: &mut BTreeMap<Key, Model>) -> Option<u64> {
        let key = self.write()?.key().clone();
        let before = model.remove(&key);
        let (after, count) = match (self, before.clone()) {
            (Self::Set(_, fields), None | Some(Model::Hash(_))) => {
                let mut hash = if let Some(Model::Hash(hash)) = before { hash } else { BTreeMap::new() };
                let added = fields.iter().filter(|(field, value)| hash.insert(vec![*field], vec![*value]).is_none()).count();
                (Some(Model::Hash(hash)), Some(added as u64))
            }
            (Self::Unset(..), None) => (None, Some(0)),
            (Self::Unset(_, fields), Some(Model::Hash(mut hash))) => {
                let removed = fields.iter().filter(|field| hash.remove(&vec![**field]).is_some()).count();
                (Some(hash).filter(|hash| !hash.is_empty()).map(Model::Hash), Some(removed as u64))
            }
            (Self::Remove(_), before) => (None, Some(u64::from(before.is_some()))),
            (Self::Text(_, value), _) => (Some(Model::Text(value.to_string().into())), Some(1)),
            (Self::Count(_), None) => (Some(Model::Text(b"1".to_vec())), Some(1)),
            (Self::Count(_), Some(Model::Text(text))) => {
                let count = std::str::from_utf8(&text).unwrap().parse::<u64>().unwrap() + 1;
                (Some(Model::Text(count.to_string().into())), Some(count))
            }
            (_, before) => (before, None),
        };
        model.extend(after.map(|after| (key, after)));
        count
    }
}

fn seen(key: &Key, model: Option<&Model>) -> Entry {
    match (key, model) {
        (_, None) => Entry::Missing,
        (Key::User(_), Some(Model::Hash(hash))) => Entry::Hash(hash.clone().into_iter().collect()),
        (Key::Shield(_), Some(Model::Text(value))) => Entry::Text { value: value.clone(), ttl: None },
        _ => Entry::Unreadable(String::new()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn it_behaves_as_a_map(batches in prop::collection::vec(prop::collection::vec(step(), 1..5), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = BTreeMap::new();
        let mut backend = open(dir.path()).unwrap();
        for batch in batches {
            if batch.iter().any(|step| matches!(step, Step::Reopen)) {
                drop(backend);
                backend = open(dir.path()).unwrap();
            }
            let writes: Vec<Write> = batch.iter().filter_map(Step::write).collect();
            let written = backend.connect().unwrap().write(&writes).unwrap();
            let expected: Vec<_> = batch.iter().filter(|step| step.write().is_some()).map(|step| step.apply(&mut model)).collect();
            let counts: Vec<_> = written.iter().map(|written| match written {
                Written::Count(count) => Some(*count),
                Written::Failed(_) => None,
            }).collect();
            prop_assert_eq!(counts, expected);
            let keys: Vec<Key> = (0..6).map(key_of).collect();
            let read = backend.connect().unwrap().read(&keys).unwrap();
            for (key, entry) in keys.iter().zip(read) {
                let entry = match entry {
                    Entry::Text { value, .. } => Entry::Text { value, ttl: None },
                    Entry::Unreadable(_) => Entry::Unreadable(String::new()),
                    other => other,
                };
                prop_assert_eq!(entry, seen(key, model.get(key)), "{:?}", key);
            }
            let mut users = Vec::new();
            backend.connect().unwrap().list(KeyKind::User, &mut |key| {
                users.push(key);
                std::ops::ControlFlow::Continue(())
            }).unwrap();
            let known: Vec<Key> = model.keys().filter(|key| KeyKind::of(key) == Some(KeyKind::User)).cloned().collect();
            prop_assert_eq!(users, known);
        }
    }
}
