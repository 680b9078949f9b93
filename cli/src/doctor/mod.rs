//! `tidegate doctor`: what on this machine, in its processes' configuration, in the session directory or at the manager
//! will be in the way later. Looks and changes nothing.

mod certificates;
mod clocks;
mod finding;
mod machine;
mod manager;
mod ports;
mod tickets;

use std::path::{Path, PathBuf};

use tidegate_config::{ConfigError, Layers, Settings};
use tidegate_directory::{DirectoryConfig, DirectoryUrl, check};

use self::finding::{Finding, Level};
use crate::exit::{Code, Failure};
use crate::operator::Options;
use crate::output::{Format, Printer, say};

/// `tidegate doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The gateway's configuration file (TOML). Without one, the defaults and the environment, as the gateway itself.
    #[arg(long, value_name = "FILE")]
    gateway_config: Option<PathBuf>,
    /// The fleet-manager's configuration file (TOML). Without one, the defaults and the environment, as it itself.
    #[arg(long, value_name = "FILE")]
    manager_config: Option<PathBuf>,
    /// Overrides the gateway's `directory`: `embedded`, or the URL of a Redis.
    #[arg(long, value_name = "URL")]
    directory: Option<String>,
}

pub(crate) async fn run(args: Args, options: &Options) -> Result<(), Failure> {
    if let Some(Err(error)) = args.directory.as_deref().map(DirectoryUrl::parse) {
        return Err(Failure::usage(format!("--directory: {error}")));
    }
    let gateway = layers(args.gateway_config.as_deref()).flag("--directory", "directory", args.directory);
    let gateway = load::<tidegate_gateway::Config>(gateway);
    let manager = load::<fleet_manager::Config>(layers(args.manager_config.as_deref()));

    let mut findings = machine::look();
    findings.extend(clocks::look());
    let managers = manager.as_ref().ok().map(|config| config.data_dir.as_path());
    match &gateway {
        Ok(config) => {
            findings.extend(ports::gateway(config).await);
            let advertised = config.advertise.as_deref().and_then(host);
            findings.extend(certificates::gateway(&config.pki_dir, advertised, managers));
            findings.extend(tickets::look(config, managers));
            findings.extend(Box::pin(directory(config)).await);
        }
        Err(error) => findings.push(unusable("gateway configuration", error)),
    }
    match &manager {
        Ok(config) => {
            findings.extend(ports::manager(config, options).await);
            findings.extend(certificates::manager(&config.data_dir.join("pki")));
        }
        Err(error) => findings.push(unusable("manager configuration", error)),
    }
    if let (Ok(gateway), Ok(manager)) = (&gateway, &manager) {
        findings.extend(ports::twice(gateway, manager));
    }
    findings.extend(manager::look(options).await);
    report(&findings, options)
}

fn report(findings: &[Finding], options: &Options) -> Result<(), Failure> {
    let of = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (bad, warnings) = (of(Level::Fail), of(Level::Warn));
    if options.output == Format::Table {
        say(findings.iter().map(Finding::text).collect::<Vec<_>>().join("\n").as_str())?;
    } else {
        let list: Vec<_> = findings.iter().map(Finding::value).collect();
        let answer = serde_json::json!({ "findings": list, "bad": bad, "warnings": warnings });
        Printer::new(options.output).print_value(&answer)?;
    }
    if bad == 0 {
        Ok(())
    } else {
        Err(Failure::new(Code::Failure, format!("{bad} of {} checks failed", findings.len())))
    }
}

fn layers(file: Option<&Path>) -> Layers {
    Layers::new().file(file).variables(std::env::vars_os())
}

fn load<C: Settings>(layers: Layers) -> Result<C, ConfigError> {
    layers.load().map(|loaded| loaded.config)
}

fn unusable(name: &str, error: &ConfigError) -> Finding {
    Finding::fail(name, error.to_string(), "correct it; what it decides was not looked at")
}

/// What the gateway will find when it looks at its directory.
async fn directory(config: &tidegate_gateway::Config) -> Vec<Finding> {
    const NAME: &str = "directory";
    let settings = DirectoryConfig { ca_file: config.directory_ca.clone(), ..DirectoryConfig::default() };
    match DirectoryUrl::parse(&config.directory) {
        Ok(DirectoryUrl::Embedded) => vec![Finding::ok(NAME, "embedded: for one gateway")],
        Ok(DirectoryUrl::Shared(url)) => check::inspect(&url, &settings).await.into_iter().map(Finding::from).collect(),
        // The configuration was checked before.
        Err(error) => vec![Finding::fail(NAME, error.to_string(), "correct it")],
    }
}

/// The host of `host:port` or `[address]:port`.
fn host(advertised: &str) -> Option<&str> {
    let (host, _) = advertised.rsplit_once(':')?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_players_dial() {
        assert_eq!(host("play.example:7443"), Some("play.example"));
        assert_eq!(host("[::1]:7443"), Some("::1"));
        assert_eq!(host("nonsense"), None);
    }
}
