//! The machine's limits: socket buffers and file descriptors.

use super::finding::Finding;

/// Socket buffers under this lose packets at about 130,000 messages a second; a gateway asks for as much.
const UDP_BUFFER: u64 = 2 * 1024 * 1024;
/// A gateway holds one socket, but a manager with hundreds of servers and a load generator need descriptors.
const OPEN_FILES: u64 = 4_096;

pub(super) fn look() -> Vec<Finding> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let mut findings: Vec<Finding> =
        ["net.core.rmem_max", "net.core.wmem_max"].map(|key| buffer(key, read(key))).into();
    findings.push(open_files(limit.current.unwrap_or(u64::MAX)));
    findings
}

fn read(key: &str) -> Option<u64> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn buffer(key: &str, bytes: Option<u64>) -> Finding {
    let Some(bytes) = bytes else {
        // A container's own network shows no such setting: the host's counts.
        return Finding::ok(key, "cannot tell: not shown here, look at it on the host");
    };
    let fix = format!("a busy gateway loses packets with less: sysctl -w {key}={UDP_BUFFER}");
    Finding::ok_if(bytes >= UDP_BUFFER, key, format!("{bytes} bytes (wanted: {UDP_BUFFER})"), &fix)
}

fn open_files(soft: u64) -> Finding {
    let fix = "raise it: ulimit -n 65536, or LimitNOFILE= in the service's unit";
    Finding::ok_if(soft >= OPEN_FILES, "open files", format!("{soft} (wanted: {OPEN_FILES})"), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn what_is_enough_is_enough() {
        for (finding, level) in [
            (buffer("net.core.rmem_max", Some(UDP_BUFFER)), Level::Ok),
            (buffer("net.core.rmem_max", Some(212_992)), Level::Fail),
            (buffer("net.core.rmem_max", None), Level::Ok),
            (open_files(OPEN_FILES), Level::Ok),
            (open_files(1_024), Level::Fail),
        ] {
            assert_eq!((finding.level, finding.fix.is_empty()), (level, level == Level::Ok), "{finding:?}");
        }
    }
}
