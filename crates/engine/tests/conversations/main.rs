//! Conversations with one loop or several, clause by clause.

mod basics;
mod bounds;
mod durability;
mod flows;
mod groups;
mod pushes;
mod retaining;
#[path = "../support/script.rs"]
mod script;
#[path = "../support/server.rs"]
mod server;
mod sessions;
mod subscribing;
mod wills;

use midge_engine::limits::Settings;

/// Plays a script with one loop and with several, with a journal and without.
fn check(clause: &str, script: &str) {
    for persistence in [false, true] {
        for loops in [1, 2, 3] {
            println!("{clause}, {loops} loops, persistence {persistence}");
            script::play(loops, &Settings { persistence, ..Settings::default() }, script);
        }
    }
}

/// Plays a script with a journal, with one loop and with several.
fn check_durable(promise: &str, script: &str) -> Vec<server::Server> {
    let settings = Settings { persistence: true, ..Settings::default() };
    let play = |loops| {
        println!("{promise}, {loops} loops");
        script::play(loops, &settings, script)
    };
    [1, 2, 3].map(play).into()
}
