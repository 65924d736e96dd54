//! Clients that come, go and change places, held against a model.
//!
//! Memory of clients that have gone is used again at once, and most deliveries are answered from what was found a moment ago:
//! whatever the order, nobody has the rights of somebody else, and a change counts for all from when it counts for one.

use midge_testkit::fake_host::text;
use midge_testkit::{HostKind, until};

use crate::stage::{DENIED, OK, PUBLISH, RECEIVE, SOON, Stage, UNSHIELDED};

const PLACES: u64 = 5;
/// A place that no other client gets.
const PROBE: u16 = 20;
const IDS: [&str; 4] = ["c0", "c1", "c2", "c3"];
/// The first two have rules of their own, the others those of their group.
const USERS: [&str; 4] = ["u0", "u1", "g0", "g1"];
const TOPICS: [&str; 8] = ["all", "own/u0", "own/u1", "live", "group", "group/live", "me/g0", "me/g1"];
const STEPS: usize = 1_500;

/// Numbers that only look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }
}

/// What the rules say, and who is where.
struct Model {
    live: [bool; 2],
    group_live: bool,
    places: [Option<(&'static str, &'static str)>; PLACES as usize],
}

impl Model {
    fn may(&self, user: &str, topic: &str) -> bool {
        let grouped = user.starts_with('g');
        match topic {
            "all" => true,
            "live" => USERS.iter().zip(self.live).any(|(name, live)| *name == user && live),
            "group" => grouped,
            "group/live" => grouped && self.group_live,
            other => other.split_once('/').is_some_and(|(_, name)| name == user),
        }
    }
}

struct Play {
    stage: Stage,
    model: Model,
    modern: bool,
}

impl Play {
    fn new(kind: HostKind) -> Self {
        let mut stage = Stage::new(kind, &UNSHIELDED);
        stage.redis.cli(&["HSET", "midge:all:acl", "all", "pr"]).unwrap();
        stage.redis.cli(&["HSET", "midge:group:{g}:acl", "group", "pr", "me/%u", "pr"]).unwrap();
        for user in USERS {
            stage.user(user, "secret", &[]);
            if user.starts_with('g') {
                stage.redis.cli(&["HSET", &format!("midge:user:{{{user}}}"), "groups", "g"]).unwrap();
            } else {
                stage.rule(user, &format!("own/{user}"), "pr");
            }
            // From here on a login is answered from memory.
            assert_eq!(stage.login(PROBE, "probe", user, "secret"), OK);
            stage.host.event("disconnect", 20).unwrap();
        }
        let model = Model { live: [false; 2], group_live: false, places: [None; PLACES as usize] };
        Self { stage, model, modern: kind == HostKind::V2_1 }
    }

    fn step(&mut self, dice: &mut Dice) {
        match dice.below(100) {
            0..30 => self.come(dice),
            30..45 => {
                let place = dice.below(PLACES);
                self.leave(place, dice);
            }
            45..47 => self.change(dice),
            47..50 => drop(self.stage.host.tick().unwrap()),
            _ => self.check_all(dice.one(&TOPICS), dice),
        }
    }

    fn come(&mut self, dice: &mut Dice) {
        let (place, id, user) = (dice.below(PLACES), dice.one(&IDS), dice.one(&USERS));
        self.leave(place, dice);
        let handle = u16::try_from(place).unwrap();
        let certified = dice.below(4) == 0;
        if certified {
            // The listener lets it in by its certificate; before 2.1 nobody says so.
            self.stage.host.command("identify", &[handle.to_string(), text(id), text(user)]).unwrap();
        } else if dice.below(4) == 0 {
            assert_ne!(self.stage.login(handle, id, user, "wrong"), OK);
            self.stage.host.event("disconnect", u8::try_from(place).unwrap()).unwrap();
            return;
        } else {
            assert_eq!(self.stage.login(handle, id, user, "secret"), OK);
        }
        // Who had the identifier is told to have gone after the new one was let in.
        if let Some(other) = self.model.places.iter().position(|there| there.is_some_and(|(taken, _)| taken == id)) {
            self.leave(other as u64, dice);
        }
        if self.modern {
            assert_eq!(self.stage.host.event("connect", u8::try_from(place).unwrap()).unwrap(), OK);
        }
        self.model.places[usize::from(handle)] = Some((id, user));
    }

    fn leave(&mut self, place: u64, dice: &mut Dice) {
        if self.model.places[usize::try_from(place).unwrap()].take().is_some() {
            let event = if self.modern && dice.below(2) == 0 { "offline" } else { "disconnect" };
            self.stage.host.event(event, u8::try_from(place).unwrap()).unwrap();
        }
    }

    /// Adds or takes a rule, and waits until it counts for a client that is there.
    fn change(&mut self, dice: &mut Dice) {
        let (key, filter, user, now) = match dice.below(3) {
            2 => ("midge:group:{g}:acl".to_owned(), "group/live", "g0", &mut self.model.group_live),
            n => {
                let n = usize::try_from(n).unwrap();
                (format!("midge:user:{{{}}}:acl", USERS[n]), "live", USERS[n], &mut self.model.live[n])
            }
        };
        *now = !*now;
        let (allowed, code) = (*now, if *now { OK } else { DENIED });
        let command = if allowed { vec!["HSET", &key, filter, "pr"] } else { vec!["HDEL", &key, filter] };
        assert_eq!(self.stage.login(PROBE, "probe", user, "secret"), OK);
        self.stage.redis.cli(&command).unwrap();
        // Some brokers never tick.
        let ticks = dice.below(2) == 0;
        until("the change to act", SOON, || {
            if ticks {
                self.stage.host.tick()?;
            }
            Ok((self.stage.acl(PROBE, RECEIVE, filter) == code).then_some(()))
        })
        .unwrap();
        self.stage.host.event("disconnect", u8::try_from(PROBE).unwrap()).unwrap();
    }

    /// Asks for all who are there, as a message that goes to all of them does.
    fn check_all(&mut self, topic: &str, dice: &mut Dice) {
        let access = if dice.below(5) == 0 { PUBLISH } else { RECEIVE };
        for place in 0..self.model.places.len() {
            let Some((id, user)) = self.model.places[place] else { continue };
            let expected = if self.model.may(user, topic) { OK } else { DENIED };
            let code = self.stage.acl(u16::try_from(place).unwrap(), access, topic);
            assert_eq!(code, expected, "{user} as {id} at {place}: {topic}");
        }
    }
}

#[test]
fn nobody_has_the_rights_of_somebody_else() {
    for kind in [HostKind::V2_0, HostKind::V2_1] {
        for seed in 1..=4_u64 {
            let mut play = Play::new(kind);
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for step in 0..STEPS {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play.step(&mut dice)));
                assert!(outcome.is_ok(), "{kind:?}, seed {seed}, step {step}: {:#?}", play.stage.calls());
            }
            play.stage.finish();
        }
    }
}
