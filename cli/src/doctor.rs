//! `tidegate doctor`: what on this machine, or at the manager, will be in the way later.

use tidegate_proto::v1;

use crate::exit::{Code, Failure};
use crate::operator::{Context, Options};

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
        Err(_) => findings.push(Finding {
            ok: false,
            name: "fleet-manager",
            what: format!("no answer at {}", options.manager),
            fix: "start one, or name another with --manager",
        }),
    }
    let mut bad = 0;
    for finding in &findings {
        println!("{} {:24} {}", if finding.ok { "ok " } else { "BAD" }, finding.name, finding.what);
        if !finding.ok {
            bad += 1;
            println!("    {}", finding.fix);
        }
    }
    if bad == 0 {
        Ok(())
    } else {
        Err(Failure::new(Code::Failure, format!("{bad} of {} checks failed", findings.len())))
    }
}

fn buffer(key: &'static str) -> Finding {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    let value = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    Finding {
        ok: value.is_some_and(|v| v >= UDP_BUFFER),
        name: key,
        what: value.map_or_else(|| "cannot be read".to_owned(), |v| format!("{v} bytes, {UDP_BUFFER} are wanted")),
        fix: "a busy gateway loses packets with less: sysctl -w net.core.rmem_max=2097152 net.core.wmem_max=2097152",
    }
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    Finding {
        ok: soft >= OPEN_FILES,
        name: "open files",
        what: format!("{soft} allowed, {OPEN_FILES} are wanted"),
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
    let connected = gateways.iter().filter(|g| g.connected).count();
    findings.push(Finding {
        ok: connected > 0 && connected == gateways.len(),
        name: "gateways",
        what: format!("{connected} of {} connected", gateways.len()),
        fix: "start it, or look at its log: `manager` in its configuration must be this manager's address",
    });
}
