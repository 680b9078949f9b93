//! `tidegate doctor`: what on this machine, or at the manager, will be in the way later.

use tidegate_proto::v1;

use crate::exit::{Code, Failure};
use crate::operator::{Context, Options};
use crate::output::{Format, Printer, say};

/// One thing looked at.
struct Finding {
    ok: bool,
    name: &'static str,
    what: String,
    /// What to do when it is not ok.
    fix: &'static str,
}

/// Socket buffers under this lose packets at about 130,000 messages a second.
const UDP_BUFFER: u64 = 2 * 1024 * 1024;
/// A gateway holds one socket, but a manager with hundreds of servers and a load generator need descriptors.
const OPEN_FILES: u64 = 4_096;

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let mut findings = vec![buffer("net.core.rmem_max"), buffer("net.core.wmem_max"), open_files()];
    match Context::connect(options).await {
        Ok(context) => manager(&context, &mut findings).await,
        Err(failure) => findings.push(Finding {
            ok: false,
            name: "fleet-manager",
            what: failure.message,
            fix: "start one (tidegate fleet-manager), or name another with --manager or TIDEGATE_MANAGER",
        }),
    }
    let bad = findings.iter().filter(|finding| !finding.ok).count();
    if options.output == Format::Table {
        say(findings.iter().map(Finding::text).collect::<Vec<_>>().join("\n").as_str())?;
    } else {
        let list: Vec<_> = findings.iter().map(Finding::value).collect();
        Printer::new(options.output).print_value(&serde_json::json!({ "findings": list, "bad": bad }))?;
    }
    if bad == 0 {
        Ok(())
    } else {
        Err(Failure::new(Code::Failure, format!("{bad} of {} checks failed", findings.len())))
    }
}

impl Finding {
    fn text(&self) -> String {
        let mark = if self.ok { "ok " } else { "BAD" };
        let fix = if self.ok { String::new() } else { format!("\n    {}", self.fix) };
        format!("{mark} {:18} {}{fix}", self.name, self.what)
    }

    fn value(&self) -> serde_json::Value {
        let fix = (!self.ok).then_some(self.fix);
        serde_json::json!({ "ok": self.ok, "name": self.name, "what": self.what, "fix": fix })
    }
}

fn buffer(key: &'static str) -> Finding {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    let value = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    Finding {
        ok: value.is_some_and(|v| v >= UDP_BUFFER),
        name: key,
        what: value.map_or_else(|| "cannot be read".to_owned(), |v| format!("{v} bytes (wanted: {UDP_BUFFER})")),
        fix: "a busy gateway loses packets with less: sysctl -w net.core.rmem_max=2097152 net.core.wmem_max=2097152",
    }
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    Finding {
        ok: soft >= OPEN_FILES,
        name: "open files",
        what: format!("{soft} (wanted: {OPEN_FILES})"),
        fix: "raise it: ulimit -n 65536, or LimitNOFILE= in the service's unit",
    }
}

async fn manager(context: &Context, findings: &mut Vec<Finding>) {
    let gateways = match context.call(context.routes().list_gateways(v1::ListGatewaysRequest {})).await {
        Ok(list) => list.gateways,
        Err(failure) => {
            findings.push(Finding { ok: false, name: "fleet-manager", what: failure.message, fix: "look at its log" });
            return;
        }
    };
    findings.push(Finding { ok: true, name: "fleet-manager", what: "answers".to_owned(), fix: "" });
    let away: Vec<&str> = gateways.iter().filter(|g| !g.connected).map(|g| g.id.as_str()).collect();
    findings.push(Finding {
        ok: !gateways.is_empty() && away.is_empty(),
        name: "gateways",
        what: match (gateways.len(), away.as_slice()) {
            (0, _) => "none is known: players cannot come in".to_owned(),
            (all, []) => format!("{all} of {all} connected"),
            (all, away) => format!("{} of {all} connected; away: {}", all - away.len(), away.join(", ")),
        },
        fix: "start it (tidegate gateway), or look at its log: its `manager` must be this manager's address",
    });
    findings.extend(directories(&gateways));
}

/// Whether the gateways' shared directory answers them; nothing is said where each keeps its own.
fn directories(gateways: &[v1::Gateway]) -> Option<Finding> {
    let shared: Vec<&v1::Gateway> = gateways.iter().filter(|g| g.connected && g.directory != "embedded").collect();
    let degraded = shared.iter().filter(|g| g.directory_state() == v1::DirectoryState::Degraded);
    let degraded: Vec<&str> = degraded.map(|g| g.id.as_str()).collect();
    (!shared.is_empty()).then(|| Finding {
        ok: degraded.is_empty(),
        name: "session directory",
        what: match degraded.as_slice() {
            [] => format!("answers all {} gateways that share it", shared.len()),
            degraded => format!("degraded: does not answer {}", degraded.join(", ")),
        },
        fix: "start Redis, or look at it: players whose home is known play on, others wait in line",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_does_not_answer_is_named_by_its_gateways() {
        let gateway = |id: &str, state: v1::DirectoryState| v1::Gateway {
            id: id.to_owned(),
            connected: true,
            directory: "redis://cache".to_owned(),
            directory_state: state.into(),
            ..v1::Gateway::default()
        };
        let well = gateway("gw-1", v1::DirectoryState::Ok);
        assert!(directories(std::slice::from_ref(&well)).is_some_and(|finding| finding.ok));
        let found = directories(&[well, gateway("gw-2", v1::DirectoryState::Degraded)]).expect("is said");
        assert!(!found.ok && found.what.contains("gw-2") && !found.what.contains("gw-1"), "{}", found.what);
        let alone = v1::Gateway { connected: true, directory: "embedded".to_owned(), ..v1::Gateway::default() };
        assert!(directories(&[alone]).is_none());
    }
}
