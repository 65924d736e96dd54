//! A server under stress, from a seed.
//!
//! Connections are lost and taken over, clients read slowly, mail between loops is late, the server crashes.
//! Clients keep to the standard; what they see at the end is checked against what they published.
//! A topic is used with one QoS only, so that its name says how its messages are published.

mod client;
mod oracle;
#[path = "../support/server.rs"]
mod server;

use std::time::Duration;

use midge_engine::limits::Settings;
use midge_mqtt::QoS;

use client::Model;
use server::Server;

/// SplitMix64, after Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

const TOPICS: [(&str, QoS); 7] = [
    ("a/0", QoS::AtMostOnce),
    ("a/1", QoS::AtLeastOnce),
    ("a/2", QoS::ExactlyOnce),
    ("b/2", QoS::ExactlyOnce),
    ("job/1", QoS::AtLeastOnce),
    ("job/2", QoS::ExactlyOnce),
    (client::RETAINED, QoS::AtLeastOnce),
];

/// Whose rights change on the way.
const DOUBTFUL: &str = "c4";

fn clients(crashes: bool) -> Vec<Model> {
    let filters: [&[(&str, QoS)]; 7] = [
        &[("#", QoS::ExactlyOnce)],
        &[("a/+", QoS::AtLeastOnce), ("a/2", QoS::ExactlyOnce)],
        &[("a/2", QoS::ExactlyOnce), ("b/+", QoS::ExactlyOnce), ("$share/g/job/+", QoS::ExactlyOnce)],
        &[("a/1", QoS::ExactlyOnce), ("$share/g/job/+", QoS::ExactlyOnce)],
        &[("b/#", QoS::ExactlyOnce), ("a/#", QoS::AtLeastOnce)],
        &[("a/0", QoS::AtMostOnce), ("a/#", QoS::ExactlyOnce)],
        &[("$share/g/job/+", QoS::ExactlyOnce), ("a/1", QoS::AtLeastOnce)],
    ];
    let make = |(number, filters): (usize, &&[(&str, QoS)])| {
        // What a member holds whose session is not on disk is lost in a crash.
        let filters = filters.iter().filter(|(filter, _)| number != 6 || !crashes || !filter.starts_with("$share/"));
        let filters = filters.map(|(filter, qos)| ((*filter).to_owned(), *qos)).collect();
        Model::new(&format!("c{number}"), number == 6, filters)
    };
    filters.iter().enumerate().map(make).collect()
}

fn simulate(seed: u64, loops: u8, crashes: bool) {
    let mut random = Random(seed);
    let settings =
        Settings { persistence: true, max_inflight: 4, max_outgoing_bytes: 400, receive_maximum: 1000, ..Settings::default() };
    let mut server = Server::new(loops, settings);
    // The first gets all but what is for the group, and not the topic b/2 either.
    server.denials.set("c0", 'r', "job/#", true);
    server.denials.set("c0", 'r', "b/2", true);
    let mut clients = clients(crashes);
    for client in clients.iter_mut().filter(|client| !client.fleeting) {
        client.connect(&mut server, &mut random);
        while client.read(&mut server) {}
        assert!(client.subscribed);
    }
    server.auto = false;
    server.manual = true;
    let mut crashed = false;
    for _ in 0..1500 {
        crashed |= step(&mut random, &mut server, &mut clients, crashes);
    }
    server.auto = true;
    server.manual = false;
    calm(&mut server, &mut clients, &mut random);
    // Between the commits of two loops, a crash can have a message of QoS 2 passed on twice.
    oracle::check(&clients, &server, crashed && loops > 1);
    assert_eq!(server.state().messages.len(), 0, "every message was given up in the end");
    let newcomers = newcomers(&mut server, &mut random);
    oracle::check_retained(&clients, &newcomers);
    assert!(clients.iter().map(|client| client.delivered.len()).sum::<usize>() > 100);
}

/// Does one thing; returns whether it was a crash.
fn step(random: &mut Random, server: &mut Server, clients: &mut [Model], crashes: bool) -> bool {
    let count = clients.len();
    let client = &mut clients[random.below(count)];
    let name = client.name.clone();
    let event_loop = random.below(server.shards.len());
    match random.below(100) {
        0..25 => {
            let (topic, qos) = TOPICS[random.below(TOPICS.len())];
            if !client.fleeting {
                client.publish(server, topic, qos);
            }
        }
        25..45 => {
            client.read(server);
        }
        45..60 if client.online => {
            client.acknowledge(server);
        }
        60..75 => {
            let other = random.below(server.shards.len());
            let limit = random.below(4) + 1;
            server.post(event_loop, other, limit);
        }
        75..80 => {
            server.commit(event_loop);
        }
        80..83 => server.write_ahead(event_loop),
        83..86 => server.collect(event_loop),
        86..91 => server.write(event_loop),
        91..94 => {
            let room = if random.one_in(2) { None } else { Some(random.below(200)) };
            server.read(&name, room);
        }
        94..96 => {
            server.pass(Duration::from_millis(random.next() % 1000));
            server.with(event_loop, midge_engine::shard::Shard::advance);
        }
        96 if crashes && random.one_in(6) => {
            // It may begin again on a machine with more or fewer cores.
            let loops = if server.shards.len() == 1 { 1 } else { random.below(3) + 1 };
            server.crash(u8::try_from(loops).expect("few loops"));
            clients.iter_mut().for_each(Model::lost);
            return true;
        }
        96 if name == DOUBTFUL && random.one_in(2) => {
            let denied = server.denials.denies(&name, 'r', "b/2");
            server.denials.set(&name, 'r', "b/2", !denied);
            client.doubtful = true;
        }
        97 if random.one_in(3) => client.disconnect(server),
        97 => {
            server.lose(&name);
            client.lost();
        }
        // Connects again, or takes its own connection over.
        98.. => {
            let gone = server.wires.get(&name).is_none_or(|wire| wire.closed);
            if gone || random.one_in(4) {
                client.connect(server, random);
            }
        }
        _ => {}
    }
    false
}

/// Lets everybody connect, read and acknowledge until nothing is left to do.
fn calm(server: &mut Server, clients: &mut [Model], random: &mut Random) {
    for client in clients.iter_mut() {
        client.connect(server, random);
    }
    for _ in 0..100_000 {
        let mut busy = false;
        for client in clients.iter_mut() {
            server.read(&client.name.clone(), None);
            busy |= client.read(server);
            busy |= client.online && client.acknowledge(server);
        }
        server.settle();
        if !busy {
            assert!(clients.iter().all(Model::is_idle), "somebody waits for an acknowledgement for ever");
            return;
        }
    }
    panic!("the clients never come to rest");
}

/// Returns a client of each loop who only wants to know what is retained.
fn newcomers(server: &mut Server, random: &mut Random) -> Vec<Model> {
    let name = |server: &Server, event_loop| {
        (0..).map(|number| format!("z{number}")).find(|name| server.home(name) == event_loop).expect("some name falls there")
    };
    let names: Vec<String> = (0..server.shards.len()).map(|event_loop| name(server, event_loop)).collect();
    let mut newcomers = Vec::new();
    for name in names {
        let mut newcomer = Model::new(&name, true, vec![("$r/#".to_owned(), QoS::AtLeastOnce)]);
        newcomer.connect(server, random);
        while newcomer.read(server) {}
        newcomers.push(newcomer);
    }
    newcomers
}

/// Seeds of each scenario in an ordinary run.
const SEEDS: u64 = 60;

/// Simulates seeds from `first` on: as many as `MIDGE_SIMULATION_SEEDS` says, or [`SEEDS`].
fn simulate_seeds(first: u64, loops: u8, crashes: bool) {
    let count = std::env::var("MIDGE_SIMULATION_SEEDS").map_or(SEEDS, |count| count.parse().expect("a number of seeds"));
    for seed in first..first + count {
        let result = std::panic::catch_unwind(|| simulate(seed, loops, crashes));
        assert!(result.is_ok(), "seed {seed}, {loops} loops, crashes: {crashes}");
    }
}

#[test]
fn one_loop_without_crashes() {
    simulate_seeds(0, 1, false);
}

#[test]
fn two_loops_without_crashes() {
    simulate_seeds(1_000_000, 2, false);
}

#[test]
fn one_loop_that_crashes() {
    simulate_seeds(2_000_000, 1, true);
}

#[test]
fn two_loops_that_crash() {
    simulate_seeds(3_000_000, 2, true);
}

#[test]
fn three_loops_that_crash() {
    simulate_seeds(4_000_000, 3, true);
}
