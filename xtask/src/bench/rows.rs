//! What is measured, and what Midge must reach in it.
//!
//! A goal stands as it was set on one machine, beside what a reference was measured at there in the same hour;
//! elsewhere what counts is the quotient of both, against the same quotient of the run.

use super::peers::FLOOR;

/// The reference of what the bare forwarder can't do.
pub(super) const MOSQUITTO: &str = "Mosquitto 2.1.2";

/// A load that every broker has in every round.
pub(super) struct Row {
    /// How `--only` names it.
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    /// Whether the bare forwarder can do it.
    pub(super) floor: bool,
    /// Whether Midge has it with everything switched on, too.
    pub(super) everything: bool,
    /// How many times as long as others it is measured.
    pub(super) longer: u32,
    /// The words of `midge bench`.
    pub(super) words: &'static [&'static str],
    pub(super) goals: &'static [Goal],
}

/// A figure that Midge must reach.
pub(super) struct Goal {
    pub(super) figure: &'static str,
    /// The greatest, of a rate the least.
    pub(super) value: f64,
    /// The reference, and what it had where the goal was set; none where the figure doesn't depend on the machine.
    pub(super) reference: Option<(&'static str, f64)>,
}

const fn floor(figure: &'static str, value: f64, there: f64) -> Goal {
    Goal { figure, value, reference: Some((FLOOR, there)) }
}

const fn mosquitto(figure: &'static str, value: f64, there: f64) -> Goal {
    Goal { figure, value, reference: Some((MOSQUITTO, there)) }
}

const fn absolute(figure: &'static str, value: f64) -> Goal {
    Goal { figure, value, reference: None }
}

/// The loads that are timed.
pub(super) const TIMED: &[Row] = &[
    Row {
        key: "fan-out-500",
        title: "fan-out 1 to 500, QoS 0, 1 in flight",
        floor: true,
        everything: true,
        longer: 1,
        words: &["fan-out", "--subscribers", "500"],
        goals: &[floor("cpu", 8.0, 7.2)],
    },
    Row {
        key: "fan-out-500-20",
        title: "fan-out 1 to 500, QoS 0, 20 in flight",
        floor: true,
        everything: true,
        longer: 1,
        words: &["fan-out", "--subscribers", "500", "--window", "20"],
        goals: &[floor("cpu", 0.75, 0.62)],
    },
    Row {
        key: "fan-out-500-qos1",
        title: "fan-out 1 to 500, QoS 1, 1 in flight",
        floor: false,
        everything: false,
        longer: 1,
        words: &["fan-out", "--subscribers", "500", "--qos", "1"],
        goals: &[mosquitto("cpu", 9.0, 11.2)],
    },
    Row {
        key: "fan-in-200",
        title: "fan-in 200 to 1, QoS 0, 4 in flight each",
        floor: true,
        everything: true,
        longer: 1,
        words: &["fan-in", "--publishers", "200", "--window", "4"],
        goals: &[floor("cpu", 1.6, 1.39)],
    },
    Row {
        key: "pairs-qos0",
        title: "100 pairs, QoS 0, 10 in flight each",
        floor: true,
        everything: false,
        longer: 1,
        words: &["pairs", "--clients", "100", "--window", "10"],
        goals: &[mosquitto("cpu", 2.7, 10.1)],
    },
    Row {
        key: "pairs-qos1",
        title: "100 pairs, QoS 1, 10 in flight each",
        floor: false,
        everything: true,
        longer: 1,
        words: &["pairs", "--clients", "100", "--window", "10", "--qos", "1"],
        goals: &[mosquitto("cpu", 3.3, 18.7)],
    },
    Row {
        key: "fan-out-10000",
        title: "fan-out 1 to 10,000, QoS 0, 1 message a second",
        floor: true,
        everything: false,
        longer: 2,
        words: &["fan-out", "--subscribers", "9990", "--rate", "1"],
        goals: &[floor("cpu", 13.0, 12.2)],
    },
    Row {
        key: "pairs-5000",
        title: "100 pairs, QoS 1, open loop of 5,000 a second",
        floor: false,
        everything: false,
        longer: 1,
        words: &["pairs", "--clients", "100", "--rate", "5000", "--qos", "1"],
        goals: &[mosquitto("cpu", 35.0, 44.0), mosquitto("p50", 90.0, 101.0), mosquitto("p99", 130.0, 153.0)],
    },
    Row {
        key: "connect",
        title: "connect 5,000 clients, which stay idle",
        floor: true,
        everything: false,
        longer: 1,
        words: &["connect", "--clients", "5000"],
        goals: &[absolute("bytes", 600.0), floor("rate", 17_000.0, 20_200.0)],
    },
];

/// The loads whose system calls are counted, each with a smaller and a greater number of messages.
pub(super) const COUNTED: &[(Row, [u32; 2])] = &[
    (
        Row {
            key: "calls-fan-out",
            title: "system calls, fan-out 1 to 500, QoS 0, 1 in flight",
            floor: true,
            everything: false,
            longer: 1,
            words: &["fan-out", "--subscribers", "500"],
            goals: &[absolute("calls", 1.1)],
        },
        [5, 45],
    ),
    (
        Row {
            key: "calls-fan-in",
            title: "system calls, fan-in 200 to 1, QoS 0, 4 in flight each",
            floor: true,
            everything: false,
            longer: 1,
            words: &["fan-in", "--publishers", "200", "--window", "4"],
            goals: &[],
        },
        [1_000, 5_000],
    ),
    (
        Row {
            key: "calls-pair",
            title: "system calls, 1 pair, QoS 1, 1 in flight",
            floor: false,
            everything: false,
            longer: 1,
            words: &["pairs", "--clients", "1", "--qos", "1"],
            goals: &[absolute("calls", 5.0)],
        },
        [200, 1_200],
    ),
];

/// What is no load of `midge bench`: connections that only stay.
pub(super) const KERNEL: Row = Row {
    key: "kernel",
    title: "memory of the kernel for each idle socket",
    floor: true,
    everything: false,
    longer: 1,
    words: &[],
    goals: &[],
};

/// Returns every load in the order of the report.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    TIMED.iter().chain(COUNTED.iter().map(|(row, _)| row)).chain([&KERNEL])
}
