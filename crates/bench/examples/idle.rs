//! Counts what idle connections take of memory.
//!
//! `idle PORT PID NUMBER`: so many clients that say nothing after CONNECT; run several where one may not open as many files.
//! Says what each takes of the process PID, and what the operating system keeps for both of its ends.

use anyhow::{Context, Result};

#[path = "support/raw.rs"]
mod raw;

use raw::{Cost, Raw};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, pid, number] = args.as_slice() else { anyhow::bail!("idle PORT PID NUMBER") };
    let (port, pid, number): (u16, u32, usize) = (port.parse()?, pid.parse()?, number.parse()?);
    // What is taken once is there after the first hundred.
    let mut open = clients(port, pid, "warm", 100)?;
    let (before, kernel) = (Cost::of(pid)?, kernel()?);
    open.extend(clients(port, pid, "idle", number)?);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let (after, then) = (Cost::of(pid)?, self::kernel()?);
    let each = |before: i64, after: i64| (after - before) / i64::try_from(number).unwrap_or(i64::MAX).max(1);
    println!("{number} idle connections: {} bytes of the process each", each(before.resident, after.resident));
    for ((name, before), (_, after)) in kernel.iter().zip(&then) {
        println!("    {name}: {} bytes for both ends", each(*before, *after));
    }
    println!("    {:.1} us of CPU for each to connect", (after.cpu - before.cpu).as_secs_f64() * 1e6 / number as f64);
    drop(open);
    Ok(())
}

/// Connects clients and keeps nothing but their sockets.
fn clients(port: u16, pid: u32, name: &str, number: usize) -> Result<Vec<std::net::TcpStream>> {
    (0..number)
        .map(|at| Ok(Raw::connect(port, &format!("{name}-{pid}-{}-{at:06}", std::process::id()), true)?.into_stream()))
        .collect()
}

/// Returns what the kernel says of its memory, in bytes: proc_meminfo(5), and the pages of TCP's buffers.
fn kernel() -> Result<Vec<(&'static str, i64)>> {
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let field = |name: &str| -> Result<i64> {
        let line = meminfo.lines().find(|line| line.starts_with(name)).context("a field of meminfo")?;
        Ok(line.split_whitespace().nth(1).context("its number")?.parse::<i64>()? * 1024)
    };
    let sockstat = std::fs::read_to_string("/proc/net/sockstat")?;
    let pages = sockstat.lines().find(|line| line.starts_with("TCP:")).and_then(|line| line.rsplit(' ').next());
    Ok(vec![("slab", field("Slab:")?), ("TCP buffers", pages.context("sockstat")?.trim().parse::<i64>()? * 4096)])
}
