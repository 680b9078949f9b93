//! What the system says of the gateway's process, and what the gateway says of itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

/// Clock ticks a second in /proc; the same on every Linux that runs here.
const TICKS_PER_S: f64 = 100.0;

/// Resident memory in MiB.
pub(crate) fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|line| line.trim().strip_suffix(" kB")).unwrap_or("0").parse()?;
    Ok(kib / 1024.0)
}

/// Processor time used so far, in seconds.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may contain anything, the fields are plain; user and system time are the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / TICKS_PER_S)
}

/// The gateway's counters of what it turned away, those that are not 0.
pub(crate) fn counters(folder: &Path) -> anyhow::Result<Vec<String>> {
    let address = std::fs::read_to_string(folder.join("gateway/metrics.addr"))?;
    let mut stream = TcpStream::connect(address.trim())?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let told = ["over_rate", "turned_away", "retried", "closed", "shed", "buffered", "tracked", "packets_received"];
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
    Ok(lines.filter(|line| told.iter().any(|word| line.contains(word))).map(str::to_owned).collect())
}
