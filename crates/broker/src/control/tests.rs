//! A store over the socket is the store itself.

use std::io::{Read, Write as _};
use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::time::Duration;

use midge_core::directory::DirectorySettings;
use midge_core::entry::Entry;
use midge_core::gate::{Gate, GateSettings, Hello, LoginSettings, Proof, Refusal, Stranger};
use midge_core::key::{Key, KeySpace};
use midge_core::name::Username;
use midge_core::password::HashPolicy;
use midge_store::service::{Clock, Service, ServiceSettings, Verdict};
use midge_store::{Change, KeyKind, Store, StoreSettings, Write, Written};
use tempfile::TempDir;

use super::*;

/// A server's side: an embedded store with its socket.
struct Server {
    control: Control,
    backend: Arc<dyn Backend>,
    directory: PathBuf,
    _folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let directory = folder.path().join("store");
        Self::start_in(directory, folder)
    }

    fn start_in(directory: PathBuf, folder: TempDir) -> Self {
        let url = format!("file:{}", directory.display()).parse().unwrap();
        let backend: Arc<dyn Backend> = Arc::from(midge_store::open(&url, &StoreSettings::default()).unwrap());
        let control = Control::start(&directory, backend.clone()).unwrap();
        Self { control, backend, directory, _folder: folder }
    }

    fn client(&self) -> Client {
        Client::find(&self.directory, "midge:").unwrap().expect("a server listens")
    }

    fn raw(&self) -> UnixStream {
        let stream = Reach::new(&self.directory).unwrap().connect().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// Longer than the server's own patience would be a hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn user(name: &str) -> Key {
    Key::User(name.parse().unwrap())
}

fn set(name: &str, field: &str, value: &[u8]) -> Write {
    Write::SetFields(user(name), vec![(field.as_bytes().to_vec(), value.to_vec())])
}

#[test]
fn every_operation_does_what_it_does_to_the_store_itself() {
    let server = Server::start();
    let mut client = server.client();
    let mut store = server.backend.connect().unwrap();
    client.ping().unwrap();
    let ban = Key::Ban("ip:10.0.0.0/8".parse().unwrap());
    let writes = [
        set("zoë}:acl", "enabled", b"1"),
        set("zoë}:acl", "raw", &[0, 255, 128]),
        Write::SetFields(Key::UserAcl("a".parse().unwrap()), vec![(b"x/#".to_vec(), b"prs".to_vec())]),
        Write::RemoveFields(Key::UserAcl("a".parse().unwrap()), vec![b"absent".to_vec()]),
        Write::SetText { key: ban.clone(), value: b"why".to_vec(), ttl: Some(Duration::from_secs(1_000)) },
        Write::Increment { key: Key::Shield(midge_core::key::ShieldTarget::User("a".parse().unwrap())), ttl: PATIENCE },
        Write::Remove(user("nobody")),
        Write::SetFields(ban.clone(), vec![(b"f".to_vec(), b"v".to_vec())]),
    ];
    let written = client.write(&writes).unwrap();
    assert_eq!(written[..7], [1, 1, 1, 0, 1, 1, 0].map(Written::Count));
    assert!(matches!(&written[7], Written::Failed(reason) if reason.contains("WRONGTYPE")), "{written:?}");

    let keys = [user("zoë}:acl"), user("nobody"), Key::UserAcl("a".parse().unwrap())];
    assert_eq!(client.read(&keys).unwrap(), store.read(&keys).unwrap());
    let Some(Entry::Text { value, ttl: Some(ttl) }) = client.read(&[ban]).unwrap().pop() else { panic!("the ban is a text") };
    assert!(value == b"why" && ttl > Duration::from_secs(900));
    assert_eq!(client.read(&[]).unwrap(), []);

    let zoe = user("zoë}:acl");
    assert_eq!(client.replace_field(&zoe, b"raw", b"other", b"new").unwrap(), Written::Count(0));
    assert_eq!(client.replace_field(&zoe, b"raw", &[0, 255, 128], b"new").unwrap(), Written::Count(1));
    assert_eq!(client.list_page(KeyKind::User, &midge_store::Page::default()).unwrap(), (vec![zoe], None));
}

#[test]
fn listings_have_every_key_of_every_kind_on_however_many_pages() {
    let server = Server::start();
    let mut client = server.client();
    let all: Vec<Key> = (0..2_500).map(|n| user(&format!("u{n:05}"))).collect();
    client
        .write(&all.iter().map(|key| Write::SetFields(key.clone(), vec![(b"enabled".to_vec(), b"1".to_vec())])).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(client.list_page(KeyKind::User, &midge_store::Page::default()).unwrap().0, all);
    let mut seen = 0;
    client
        .list(KeyKind::User, &mut |_| {
            seen += 1;
            if seen < 1_200 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    assert_eq!(seen, 1_200);
    for (_, key) in [("acl", "all:acl"), ("group", "group:{g}:acl"), ("autosub", "client:{c}:autosub"), ("ban", "ban:{user:x}")] {
        let key = KeySpace::new("").parse(key.as_bytes()).unwrap();
        let kind = KeyKind::of(&key).unwrap();
        client.write(&[Write::Remove(key)]).unwrap();
        assert_eq!(client.list_page(kind, &midge_store::Page::default()).unwrap().0, []);
    }
}

#[test]
fn what_does_not_fit_into_a_message_is_asked_for_in_parts() {
    let server = Server::start();
    let mut client = server.client();
    let large = vec![7; 5 << 20];
    let names = ["a", "b", "c", "d"];
    let writes: Vec<Write> = names.iter().map(|name| set(name, "x", &large)).collect();
    assert_eq!(client.write(&writes).unwrap(), [1; 4].map(Written::Count));
    let read = client.read(&names.map(user)).unwrap();
    assert!(read.iter().all(|entry| *entry == Entry::Hash(vec![(b"x".to_vec(), large.clone())])));
    let error = client.write(&[set("e", "x", &vec![7; 20 << 20])]).unwrap_err();
    assert!(!error.is_away() && error.to_string().contains("more than a message"), "{error}");
}

#[test]
fn a_change_acts_on_the_server_at_once() {
    let server = Server::start();
    let settings = GateSettings { directory: DirectorySettings::default(), ..GateSettings::default() };
    let gate = Arc::new(Gate::new(settings, LoginSettings::default()).unwrap());
    let bounds = ServiceSettings { hash_threads: 1, ..ServiceSettings::default() };
    let mut watch = server.backend.watch().unwrap();
    let service = Service::start(gate, Box::new(server.backend.clone()), bounds, Clock::start()).unwrap();
    let login = || -> Verdict {
        let (sender, verdict) = channel();
        let proof = Proof::Password(b"open sesame".to_vec().into());
        let alice: Username = "alice".parse().unwrap();
        let hello = Hello { user: Some(alice), client: "c".parse().unwrap(), address: None, proof, stranger: Stranger::Refused };
        service.login(hello, Box::new(move |verdict| sender.send(verdict).unwrap()));
        verdict.recv_timeout(PATIENCE).unwrap()
    };
    assert_eq!(login().unwrap_err(), Refusal::NoSuchUser);
    let mut client = server.client();
    let password = HashPolicy::mosquitto7(1_000).unwrap().hash(b"open sesame").unwrap();
    client.write(&[set("alice", "password", password.as_bytes())]).unwrap();
    assert!(watch.next(PATIENCE).unwrap().contains(&Change::Key(user("alice"))));
    // The service hears of it on a thread of its own.
    midge_testkit::until("alice gets in", PATIENCE, || Ok(login().ok())).unwrap();
}

#[test]
fn other_prefixes_versions_and_noise_are_refused() {
    let server = Server::start();
    let error = Client::find(&server.directory, "other:").unwrap_err();
    assert!(error.to_string().contains("begin with \"midge:\""), "{error}");

    let mut stream = server.raw();
    let question = b"{\"version\":1,\"unheard\":\"of\"}";
    stream.write_all(&u32::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(question).unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut answer).unwrap();
    assert!(String::from_utf8(answer).unwrap().contains("speaks version 2"));

    for noise in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02{}", b"\0\0\0\x03GET", b"\0\0\0\x0d{\"version\":2}"] {
        let mut stream = server.raw();
        stream.write_all(noise).unwrap();
        let mut rest = Vec::new();
        // Closed with something unread, the other end is told so.
        let ended = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() && !matches!(ended, Err(error) if error.kind() == io::ErrorKind::WouldBlock), "{noise:?}");
    }
    server.client().ping().unwrap();
}

#[test]
fn as_many_as_there_are_places_may_be_silent() {
    let server = Server::start();
    let silent: Vec<UnixStream> = (0..MAX_CONNECTIONS - 1).map(|_| server.raw()).collect();
    for _ in 0..3 * MAX_CONNECTIONS {
        server.client().ping().unwrap();
    }
    drop(server);
    for mut stream in silent {
        assert!(!matches!(stream.read(&mut [0; 1]), Ok(1..)), "dropping the server ends them");
    }
}

#[test]
fn the_socket_is_private_and_comes_and_goes_with_the_server() {
    let server = Server::start();
    let mode = fs::metadata(server.control.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let directory = server.directory.clone();
    let Server { control, backend, _folder: folder, .. } = server;
    let socket = control.socket().to_owned();
    drop(control);
    assert!(!socket.exists() && Client::find(&directory, "midge:").unwrap().is_none());
    drop(backend);
    // What a killed server leaves behind keeps nobody from starting.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists() && Client::find(&directory, "midge:").unwrap().is_none());
    Server::start_in(directory, folder).client().ping().unwrap();
    assert!(Client::find(Path::new("/nonexistent"), "midge:").unwrap().is_none());
}

#[test]
fn a_path_may_be_longer_than_a_sockets() {
    let folder = TempDir::new().unwrap();
    let directory = folder.path().join("d".repeat(200)).join("store");
    let server = Server::start_in(directory, folder);
    server.client().ping().unwrap();
    assert!(server.control.socket().exists());
}
