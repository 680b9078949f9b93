//! What strangers and one reckless player can do to the others: latency and memory, quiet and under each kind of flood.
//!
//! ```text
//!   cargo build --workspace --all-targets && cargo run -p tidegate-tests --example open_port -- [KIND...]
//!     [--players 20] [--rounds 9] [--seconds 3]
//! ```
//!
//! Runs a whole deployment (manager, gateway, world servers as real processes) with honest players who ping all along, and a
//! flooder in a process of its own, niced, at another loopback address, which counts as a stranger's prefix. Quiet and flood
//! alternate within each kind, so that what else the machine does falls on both, and p99 is the median of the rounds'. The
//! flooder's own work shares the machine: on two cores that alone is felt, and the tool says how much of a core it took.
//! Where compilers run as well, `nice -n -19` before it keeps them apart (the flooder then runs at 0).

mod flood;
mod players;
mod watch;

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hdrhistogram::Histogram;
use tidegate_tests::cluster::Cluster;

use flood::Kind;

/// Set for the deployment: honest players come from 127.0.0.1, and only that is exempt.
const EXEMPT: (&str, &str) = ("TIDEGATE_GATEWAY_LIMITS__EXEMPT_PREFIXES", "127.0.0.1/32");

struct Options {
    kinds: Vec<Kind>,
    players: u32,
    rounds: u32,
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "flood") {
        return flood::run(&arguments[1..]);
    }
    if std::env::var(EXEMPT.0).is_err() {
        let error = Command::new(std::env::current_exe()?).args(&arguments).env(EXEMPT.0, EXEMPT.1).exec();
        return Err(error.into());
    }
    let mut options = Options { kinds: Vec::new(), players: 20, rounds: 9, seconds: 3 };
    arguments.reverse();
    while let Some(word) = arguments.pop() {
        let mut number = || arguments.pop().ok_or_else(|| anyhow::anyhow!("{word} needs a number"));
        match word.as_str() {
            "--players" => options.players = number()?.parse()?,
            "--rounds" => options.rounds = number()?.parse()?,
            "--seconds" => options.seconds = number()?.parse()?,
            kind => options.kinds.push(kind.parse()?),
        }
    }
    if options.kinds.is_empty() {
        options.kinds = Kind::ALL.to_vec();
    }
    measure(&options)
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let (cluster, _) = Cluster::populated();
    let pki = cluster.data_dir().join("pki/ca.pem");
    let key = cluster.data_dir().join("tickets/login.key");
    let gateway = cluster.gateway_address();
    let pid = cluster.gateways[0].process.as_ref().map(tidegate_tests::process::Process::pid).unwrap_or_default();
    let honest = players::Players::enter(gateway, &pki, &key, options.players)?;
    println!(
        "{} players, each kind {} times {} s quiet and {} s of flood; round trips in milliseconds\n",
        options.players, options.rounds, options.seconds, options.seconds
    );
    println!(
        "{:<10} {:>9} {:>15} {:>15} {:>6} {:>15} {:>9} {:>17} {:>6}",
        "flood",
        "a second",
        "quiet p50/p99",
        "flood p50/p99",
        "p99 x",
        "gateway's core",
        "flooder's",
        "gateway RSS MiB",
        "lost"
    );
    for kind in &options.kinds {
        one_kind(*kind, options, &honest, gateway, pid, [&pki, &key])?;
    }
    println!();
    for line in watch::counters(cluster.folder())? {
        println!("{line}");
    }
    Ok(())
}

/// Alternates quiet and flood, and prints one line.
fn one_kind(
    kind: Kind,
    options: &Options,
    honest: &players::Players,
    gateway: SocketAddr,
    pid: u32,
    files: [&std::path::PathBuf; 2],
) -> anyhow::Result<()> {
    let mut flooder = flooder(kind, gateway, files)?;
    let mut order = flooder.stdin.take().ok_or_else(|| anyhow::anyhow!("no way to give orders"))?;
    // It prepares its packets first.
    std::thread::sleep(Duration::from_secs(3));
    let before = watch::resident_mib(pid)?;
    let (mut quiet, mut flood) = (Phase::default(), Phase::default());
    let mut most = before;
    for _ in 0..options.rounds {
        for (word, phase) in [("stop", &mut quiet), ("go", &mut flood)] {
            writeln!(order, "{word}")?;
            // What the last phase left behind is neither's.
            std::thread::sleep(Duration::from_millis(500));
            honest.take();
            let (gateway_before, flooder_before) = (watch::cpu(pid)?, watch::cpu(flooder.id())?);
            std::thread::sleep(Duration::from_secs(options.seconds));
            let latency = honest.take();
            phase.p99.push(latency.value_at_quantile(0.99));
            phase.latency.add(latency)?;
            phase.gateway += watch::cpu(pid)? - gateway_before;
            phase.flooder += watch::cpu(flooder.id())? - flooder_before;
            most = most.max(watch::resident_mib(pid)?);
        }
    }
    writeln!(order, "stop")?;
    std::thread::sleep(Duration::from_secs(4));
    let after = watch::resident_mib(pid)?;
    drop(order);
    flooder.wait()?;
    let seconds = f64::from(options.rounds) * options.seconds as f64;
    let share = |cpu: f64| 100.0 * cpu / seconds;
    let p50 = |phase: &Phase| phase.latency.value_at_quantile(0.5) as f64 / 1_000.0;
    println!(
        "{:<10} {:>9} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>6.2} {:>6.0}% {:>6.0}% {:>8.0}% {:>5.0} {:>5.0} {:>5.0} {:>6}",
        kind.to_string(),
        kind.per_second(),
        p50(&quiet),
        quiet.p99_ms(),
        p50(&flood),
        flood.p99_ms(),
        flood.p99_ms() / quiet.p99_ms(),
        share(quiet.gateway),
        share(flood.gateway),
        share(flood.flooder),
        before,
        most,
        after,
        honest.lost(),
    );
    Ok(())
}

struct Phase {
    latency: Histogram<u64>,
    /// Of each round, in microseconds.
    p99: Vec<u64>,
    gateway: f64,
    flooder: f64,
}

impl Default for Phase {
    fn default() -> Self {
        Self { latency: players::histogram(), p99: Vec::new(), gateway: 0.0, flooder: 0.0 }
    }
}

impl Phase {
    /// The rounds' median: one round in which the machine did something else does not decide.
    fn p99_ms(&self) -> f64 {
        let mut p99 = self.p99.clone();
        p99.sort_unstable();
        p99.get(p99.len() / 2).map_or(0.0, |us| *us as f64 / 1_000.0)
    }
}

/// A flooder that waits for "go". It ends when its orders do.
fn flooder(kind: Kind, gateway: SocketAddr, files: [&std::path::PathBuf; 2]) -> anyhow::Result<Child> {
    let child = Command::new("nice")
        .args(["-n", "19"])
        .arg(std::env::current_exe()?)
        .args(["flood", &kind.to_string(), &gateway.to_string()])
        .args(files)
        .stdin(Stdio::piped())
        .spawn()?;
    Ok(child)
}
