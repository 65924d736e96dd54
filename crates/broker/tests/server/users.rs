//! The broker's own mind at the door.
//!
//! Users, rules and automatic subscriptions lie in a store, and what changes there acts on those who are connected.

use std::sync::Arc;

use anyhow::Result;
use midge_broker::mind::{Door, Mind as Core, Settings as CoreSettings};
use midge_broker::server::{Beginning, Handle, Resident, Server, Settings};
use midge_core::key::Key;
use midge_core::password::HashPolicy;
use midge_engine::record::State;
use midge_store::{Backend, Store, StoreSettings, Write};
use midge_testkit::{Connect, Protocol, RawClient, until};

use crate::support::{PATIENCE, Running, local};

struct Staffed {
    server: Running,
    store: Box<dyn Store>,
    _dir: tempfile::TempDir,
}

impl Staffed {
    fn start(loops: u8, writes: &[Write]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let backend = midge_store::open(&format!("file:{}", dir.path().display()).parse()?, &StoreSettings::default())?;
        let backend: Arc<dyn Backend> = Arc::from(backend);
        let mut store = backend.connect()?;
        store.write(writes)?;
        let core = Core::start(CoreSettings { doors: vec![Door::default()], ..CoreSettings::default() }, backend)?;
        let settings = Settings { loops, listeners: vec![local()], ..Settings::default() };
        let beginning = Beginning { state: &State::default(), journal: None, clock: core.clock() };
        let server =
            Server::start(settings, &beginning, |place, handle: &Handle| Box::new(Resident::new(&core, handle, place.event_loop)))?;
        Ok(Self { server: Running::new(server), store, _dir: dir })
    }

    fn login(&self, id: &str, user: &str, password: &str) -> Result<(RawClient, u8)> {
        RawClient::try_connect(self.server.port(), &Connect::new(Protocol::V5, id).login(user, password))
    }
}

fn set(key: Key, fields: &[(&str, &str)]) -> Write {
    Write::SetFields(key, fields.iter().map(|(field, value)| (field.as_bytes().to_vec(), value.as_bytes().to_vec())).collect())
}

fn alice() -> Result<Vec<Write>> {
    let password = HashPolicy::default().hash(b"secret")?;
    Ok(vec![
        set(Key::User("alice".parse()?), &[("password", &password)]),
        set(Key::UserAcl("alice".parse()?), &[("own/%u/#", "prs"), ("news/#", "rs")]),
        set(Key::UserAutosub("alice".parse()?), &[("news/%c", "1")]),
    ])
}

#[test]
fn users_get_in_and_do_what_their_rules_say() -> Result<()> {
    let staffed = Staffed::start(2, &alice()?)?;
    assert_eq!(staffed.login("c", "alice", "wrong")?.1, 0x86);
    assert_eq!(staffed.login("c", "nobody", "secret")?.1, 0x86);
    let (_, anonymous) = RawClient::try_connect(staffed.server.port(), &Connect::new(Protocol::V5, "anon"))?;
    assert!(anonymous >= 0x80, "{anonymous:#x}");
    for id in ["phone", "tablet", "watch"] {
        let (mut client, code) = staffed.login(id, "alice", "secret")?;
        assert_eq!(code, 0);
        assert_eq!(client.subscribe(&[("own/alice/#", 1), ("own/bob/#", 1)])?, [1, 0x87]);
        assert_eq!(client.publish("own/alice/x", b"mine", 1, false)?, 0);
        assert_eq!(client.message(PATIENCE)?.expect("its own message").text().0, "own/alice/x");
        assert_eq!(client.publish("news/phone", b"lie", 1, false)?, 0x87);
    }
    Ok(())
}

#[test]
fn a_user_may_be_bound_to_client_identifiers() -> Result<()> {
    let mut staffed = Staffed::start(2, &alice()?)?;
    staffed.store.write(&[set(Key::User("alice".parse()?), &[("client_id", "alice-phone")])])?;
    assert_eq!(staffed.login("alice-phone", "alice", "secret")?.1, 0);
    let (mut other, code) = staffed.login("alice-tablet", "alice", "secret")?;
    // 3.1.1: MQTT-3.1.3-9.
    assert_eq!(code, 0x85, "[MQTT-3.1.3-8]");
    assert_eq!(other.closed(PATIENCE)?, None);
    let connect = Connect::new(Protocol::V3_1_1, "alice-tablet").login("alice", "secret");
    let (mut older, code) = RawClient::try_connect(staffed.server.port(), &connect)?;
    assert_eq!(code, 2);
    assert_eq!(older.closed(PATIENCE)?, None);
    Ok(())
}

#[test]
fn what_changes_in_the_store_acts_on_who_is_connected() -> Result<()> {
    let mut staffed = Staffed::start(2, &alice()?)?;
    let editor = HashPolicy::default().hash(b"pen")?;
    staffed.store.write(&[
        set(Key::User("editor".parse()?), &[("password", &editor)]),
        set(Key::UserAcl("editor".parse()?), &[("news/#", "p")]),
    ])?;
    let (mut phone, _) = staffed.login("phone", "alice", "secret")?;
    let (mut editor, code) = staffed.login("editor", "editor", "pen")?;
    assert_eq!(code, 0);
    // Nobody subscribed to it but the list.
    editor.publish("news/phone", b"1", 1, false)?;
    assert_eq!(phone.message(PATIENCE)?.expect("the news").text().1, "1");
    staffed.store.write(&[set(Key::UserAutosub("alice".parse()?), &[("news/all", "1")])])?;
    until("the new list", PATIENCE, || {
        editor.publish("news/all", b"2", 1, false)?;
        Ok(phone.message(std::time::Duration::from_millis(50))?.filter(|message| message.text().1 == "2"))
    })?;
    staffed.store.write(&[Write::Remove(Key::User("alice".parse()?))])?;
    assert_eq!(phone.closed(PATIENCE)?, Some(0x87));
    editor.ping(PATIENCE)
}
