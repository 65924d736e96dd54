//! Who of a plan's clients is in which process.
//!
//! Item `i` of a kind belongs to process `i % processes`, but the members of a group stay together, as only together
//! they can tell a message that came twice.

use std::ops::Range;

use crate::Plan;
use crate::plan::Scenario;

/// The clients of one process.
#[derive(Debug, Default)]
pub(crate) struct Share {
    pub(crate) roles: Vec<Role>,
    /// Receivers that each message counts for once: subscribers, or groups of them.
    pub(crate) units: usize,
    /// Publishers here and in all.
    pub(crate) publishers: (u64, u64),
}

/// What one client does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Role {
    /// Its number in the run.
    pub(crate) number: u64,
    /// The streams it publishes.
    pub(crate) publishes: Range<u32>,
    pub(crate) receives: Option<Receives>,
    /// Subscriptions that are measured themselves.
    pub(crate) filters: u32,
    /// Whether it answers what it gets.
    pub(crate) answers: bool,
    /// Whether its session outlives its connections.
    pub(crate) phone: bool,
}

/// What a client gets.
#[derive(Debug, Clone)]
pub(crate) struct Receives {
    pub(crate) filter: String,
    pub(crate) unit: usize,
    pub(crate) streams: Range<u32>,
    /// Whether its latencies are those of the run.
    pub(crate) measured: bool,
}

impl Plan {
    /// Returns the topic of a stream.
    pub(crate) fn topic(&self, stream: u32) -> String {
        let room = match self.scenario {
            Scenario::RequestResponse { requesters, .. } if stream >= requesters => "answer".to_owned(),
            Scenario::RequestResponse { requesters, responders } => (stream / requesters.div_ceil(responders)).to_string(),
            _ => "m".to_owned(),
        };
        format!("{}/{:08x}/{room}/{stream}", self.prefix, self.run)
    }

    /// Returns the filter of all streams of one room of topics.
    fn filter(&self, room: &str) -> String {
        format!("{}/{:08x}/{room}/+", self.prefix, self.run)
    }

    /// Returns how many streams the run has.
    pub(crate) fn streams(&self) -> u32 {
        match self.scenario {
            Scenario::Connect { .. } | Scenario::Subscribe { .. } => 0,
            Scenario::Publish { publishers }
            | Scenario::FanIn { publishers, .. }
            | Scenario::FanOut { publishers, .. }
            | Scenario::Shared { publishers, .. } => publishers,
            Scenario::Pairs { pairs } => pairs,
            Scenario::RequestResponse { requesters, .. } => 2 * requesters,
            Scenario::Phones { phones, .. } => phones,
        }
    }

    /// Returns the clients of a process.
    pub(crate) fn share(&self, process: u32) -> Share {
        let mut share = Share::default();
        match self.scenario {
            Scenario::Connect { clients } => self.each(process, clients, |_| share.roles.push(Role::default())),
            Scenario::Subscribe { clients, filters } => {
                self.each(process, clients, |_| share.roles.push(Role { filters, ..Role::default() }));
            }
            Scenario::Publish { publishers } => self.publishers(process, publishers, &mut share),
            Scenario::Pairs { pairs } => {
                self.each(process, pairs, |at| share.receiver(self.topic(at), at..at + 1));
                self.publishers(process, pairs, &mut share);
            }
            Scenario::FanIn { publishers, subscribers } | Scenario::FanOut { publishers, subscribers } => {
                self.each(process, subscribers, |_| share.receiver(self.filter("m"), 0..publishers));
                self.publishers(process, publishers, &mut share);
            }
            Scenario::Shared { publishers, subscribers, groups } => {
                self.each(process, groups, |group| {
                    let filter = format!("$share/{:08x}-{group}/{}", self.run, self.filter("m"));
                    for _ in (group..subscribers).step_by(groups as usize) {
                        share.member(filter.clone(), 0..publishers);
                    }
                    share.units += 1;
                });
                self.publishers(process, publishers, &mut share);
            }
            Scenario::RequestResponse { requesters, responders } => self.askers(process, requesters, responders, &mut share),
            Scenario::Phones { phones, publishers, .. } => {
                self.each(process, phones, |at| {
                    share.receiver(self.topic(at), at..at + 1);
                    share.newest(|role| role.phone = true);
                });
                let block = |at: u32| u32::try_from(u64::from(phones) * u64::from(at) / u64::from(publishers)).unwrap_or(phones);
                self.each(process, publishers, |at| share.publisher(block(at)..block(at + 1)));
                share.publishers.1 = publishers.into();
            }
        }
        for (at, role) in share.roles.iter_mut().enumerate() {
            role.number = at as u64 * u64::from(self.processes) + u64::from(process);
        }
        share
    }

    fn askers(&self, process: u32, requesters: u32, responders: u32, share: &mut Share) {
        let block = requesters.div_ceil(responders);
        self.each(process, responders, |at| {
            let last = requesters.min((at + 1).saturating_mul(block));
            share.receiver(self.filter(&at.to_string()), (at * block).min(last)..last);
            share.newest(|role| {
                role.answers = true;
                role.receives.iter_mut().for_each(|receives| receives.measured = false);
            });
        });
        self.each(process, requesters, |at| {
            let answers = requesters + at;
            share.receiver(self.topic(answers), answers..answers + 1);
            share.newest(|role| role.publishes = at..at + 1);
            share.publishers.0 += 1;
        });
        share.publishers.1 = requesters.into();
    }

    fn each(&self, process: u32, count: u32, with: impl FnMut(u32)) {
        (process..count).step_by(self.processes as usize).for_each(with);
    }

    fn publishers(&self, process: u32, count: u32, share: &mut Share) {
        self.each(process, count, |at| share.publisher(at..at + 1));
        share.publishers.1 = count.into();
    }
}

impl Share {
    fn publisher(&mut self, publishes: Range<u32>) {
        self.roles.push(Role { publishes, ..Role::default() });
        self.publishers.0 += 1;
    }

    /// Adds a client that is a unit of its own.
    fn receiver(&mut self, filter: String, streams: Range<u32>) {
        self.member(filter, streams);
        self.units += 1;
    }

    /// Adds a client that belongs to the unit that is being made.
    fn member(&mut self, filter: String, streams: Range<u32>) {
        let receives = Some(Receives { filter, unit: self.units, streams, measured: true });
        self.roles.push(Role { receives, ..Role::default() });
    }

    fn newest(&mut self, change: impl FnOnce(&mut Role)) {
        if let Some(role) = self.roles.last_mut() {
            change(role);
        }
    }

    /// Returns which publisher waits for what arrives of a stream, and for how many arrivals here of each message.
    pub(crate) fn feedback(&self, streams: u32) -> (Vec<Option<usize>>, Vec<u64>) {
        let (mut waiting, mut copies) = (vec![None; streams as usize], vec![0; self.roles.len()]);
        for (at, role) in self.roles.iter().enumerate() {
            for stream in role.publishes.clone() {
                // Who asks waits for the answer.
                let awaited = role.receives.as_ref().map_or(stream, |receives| receives.streams.start);
                waiting[awaited as usize] = Some(at);
            }
        }
        let mut units: Vec<(usize, Range<u32>)> = self
            .roles
            .iter()
            .filter_map(|role| role.receives.as_ref())
            .map(|receives| (receives.unit, receives.streams.clone()))
            .collect();
        units.dedup();
        for (_, streams) in units {
            let mut seen = None;
            for publisher in streams.filter_map(|stream| waiting[stream as usize]) {
                if seen.replace(publisher) != Some(publisher) {
                    copies[publisher] += 1;
                }
            }
        }
        (waiting, copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_somewhere_once() {
        let scenarios = [
            (Scenario::Connect { clients: 7 }, 0, 0),
            (Scenario::Subscribe { clients: 7, filters: 2 }, 0, 0),
            (Scenario::Publish { publishers: 5 }, 5, 0),
            (Scenario::Pairs { pairs: 5 }, 5, 5),
            (Scenario::FanIn { publishers: 5, subscribers: 2 }, 5, 10),
            (Scenario::FanOut { publishers: 2, subscribers: 9 }, 2, 18),
            (Scenario::Shared { publishers: 3, subscribers: 10, groups: 2 }, 3, 6),
            (Scenario::RequestResponse { requesters: 7, responders: 3 }, 7, 14),
            (Scenario::Phones { phones: 11, publishers: 3, storm_every: std::time::Duration::ZERO, storm_part: 0.0 }, 11, 11),
        ];
        for (scenario, streams, deliveries) in scenarios {
            for processes in 1..4 {
                let plan = Plan { processes, ..Plan::new("127.0.0.1".parse().unwrap(), scenario).unwrap() };
                let shares: Vec<Share> = (0..processes).map(|process| plan.share(process)).collect();
                assert_eq!(shares.iter().map(|share| share.roles.len() as u64).sum::<u64>(), plan.clients(), "{scenario:?}");
                let published: usize = shares.iter().flat_map(|share| &share.roles).map(|role| role.publishes.len()).sum();
                assert_eq!(published, streams, "{scenario:?}");
                let mut awaited = 0;
                for share in &shares {
                    let mut units = vec![0; share.units];
                    for receives in share.roles.iter().filter_map(|role| role.receives.as_ref()) {
                        units[receives.unit] = receives.streams.len();
                    }
                    awaited += units.iter().sum::<usize>();
                }
                assert_eq!(awaited, deliveries, "{scenario:?}");
            }
        }
    }
}
