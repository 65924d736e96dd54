//! Serves MQTT without users, to try and to measure.
//!
//! `serve [LOOPS] [LISTENER…]`, with LISTENER an address, or one behind `ws:`, `tls:` or `wss:`; ends when its standard input does.
//! `TLS_CERT` and `TLS_KEY` name the files for TLS, `JOURNAL` the directory of a journal.

use std::io::Read;

use midge_broker::journal::{Journal, Settings as JournalSettings};
use midge_broker::server::{Beginning, Listen, OpenDoor, Server, Settings, TlsFiles, WebSocketSettings};
use midge_engine::record::State;
use midge_store::service::Clock;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let loops = args.next().map_or(Ok(1), |text| text.parse())?;
    let mut listeners = args.map(|text| listener(&text)).collect::<Result<Vec<_>, _>>()?;
    if listeners.is_empty() {
        listeners.push(Listen::tcp(([127, 0, 0, 1], 1883).into()));
    }
    let settings = Settings { loops, listeners, ..Settings::default() };
    let journal = std::env::var_os("JOURNAL").map(|path| Journal::open(path.as_ref(), &JournalSettings::default())).transpose()?;
    let (journal, state) = journal.map_or((None, State::default()), |(journal, recovered)| (Some(journal), recovered.state));
    let server =
        Server::start(settings, &Beginning { state: &state, journal: journal.as_ref(), clock: Clock::start() }, |_, _| {
            Box::new(OpenDoor)
        })?;
    for address in server.addresses() {
        println!("{address}");
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    journal.map(Journal::close).transpose()?;
    Ok(())
}

fn listener(text: &str) -> Result<Listen, Box<dyn std::error::Error>> {
    let (kind, address) = ["ws", "tls", "wss"]
        .into_iter()
        .find_map(|kind| Some((kind, text.strip_prefix(kind)?.strip_prefix(':')?)))
        .unwrap_or(("", text));
    let files = || -> Result<TlsFiles, std::env::VarError> {
        let (certificates, key) = (std::env::var("TLS_CERT")?.into(), std::env::var("TLS_KEY")?.into());
        Ok(TlsFiles { certificates, key, client_authorities: None, client_certificate_required: false })
    };
    let tls = if kind.ends_with('s') && kind != "ws" { Some(files()?) } else { None };
    let websocket = kind.starts_with('w').then(WebSocketSettings::default);
    Ok(Listen { tls, websocket, ..Listen::tcp(address.parse()?) })
}
