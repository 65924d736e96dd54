//! One hot path at a time, for a counter of instructions.
//!
//! `counts` lists the paths, `counts PATH` runs one: it prepares, walks it once through so that all memory is taken, and then [`OPERATIONS`] times in [`counted_operations`].
//! `cargo xtask counts` runs it under callgrind, which counts in that function alone.
//! Everything is the same in each run; what is drawn from the operating system has to be given the same as well.

mod access;
mod codec;
mod hot;
#[path = "../../benches/load/rig.rs"]
mod rig;
mod subscriptions;
#[path = "../../benches/load/topics.rs"]
mod topics;
mod whole;

use std::process::ExitCode;

/// How often a path is walked where instructions are counted.
const OPERATIONS: usize = 1_000;

/// A name, and what prepares an operation; each call of that gets its number, from 0 to [`OPERATIONS`].
type Path = (&'static str, fn() -> Operation);
type Operation = Box<dyn FnMut(usize)>;

fn main() -> ExitCode {
    let paths = [codec::PATHS, subscriptions::PATHS, whole::PATHS, access::PATHS, hot::PATHS].concat();
    let Some(wanted) = std::env::args().nth(1) else {
        paths.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, prepare)) = paths.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("there is no path {wanted:?}; without an argument all are listed");
        return ExitCode::FAILURE;
    };
    let mut operation = prepare();
    (0..OPERATIONS).for_each(&mut operation);
    counted_operations(&mut *operation);
    ExitCode::SUCCESS
}

/// Where instructions are counted; its name is that of no other function.
#[inline(never)]
fn counted_operations(operation: &mut dyn FnMut(usize)) {
    for turn in 0..OPERATIONS {
        operation(turn);
    }
}
