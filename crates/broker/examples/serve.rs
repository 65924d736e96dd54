//! Serves MQTT without users and journal, to try and measure.
//!
//! `serve [LOOPS] [ADDRESS…]`; ends when its standard input does.

use std::io::Read;

use midge_broker::server::{Beginning, Listen, OpenDoor, Server, Settings};
use midge_engine::record::State;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let loops = args.next().map_or(Ok(1), |text| text.parse())?;
    let mut listeners = args.map(|text| text.parse().map(Listen::tcp)).collect::<Result<Vec<_>, _>>()?;
    if listeners.is_empty() {
        listeners.push(Listen::tcp(([127, 0, 0, 1], 1883).into()));
    }
    let settings = Settings { loops, listeners, ..Settings::default() };
    let server = Server::start(settings, &Beginning { state: &State::default(), journal: None }, |_, _| Box::new(OpenDoor))?;
    for address in server.addresses() {
        println!("{address}");
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.stop();
    Ok(())
}
