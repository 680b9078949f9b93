//! The command line of one stub world server. What the manager tells every world server comes by environment variables and
//! is the SDK's affair; here is only what is the stub's own.

use std::time::Duration;

use tidegate_types::BuildVersion;

use crate::faults::Fault;

/// Arguments of `tidegate world-server-stub`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The build this process really is, a semver: 1.x keeps character state in format 1, 2.x and later in format 2 (and
    /// reads both).
    #[arg(long, value_name = "SEMVER", default_value = "1.9.0", value_parser = parse_build)]
    pub build: BuildVersion,

    /// Write this state format instead of the build's own: lets a 2.x build write 1 while a rollback must stay possible.
    #[arg(long, value_name = "NUMBER")]
    pub write_format: Option<u32>,

    /// How often each changed character is saved, in milliseconds: what a kill -9 can take back.
    #[arg(long, value_name = "MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub save_every_ms: u64,

    /// A fault to show (repeatable, or separated by commas): `slow-start=2s`, `never-ready`, `wrong-digest`,
    /// `wrong-build=1.8.0`, `refuse-prepare` or `refuse-prepare=3` (times; `refuse-prepare=3:9`
    /// after nine that went well), `die-in=freeze` (or prepare, activate;
    /// `die-in=freeze:2` after two that went well), `hang` or `hang=5s` (after), `lie-population=7` (added to the count).
    #[arg(long = "fault", alias = "faults", value_name = "FAULT", env = "TIDEGATE_STUB_FAULTS", value_delimiter = ',')]
    pub faults: Vec<Fault>,
}

impl Args {
    /// [`Args::save_every_ms`] as a duration.
    #[must_use]
    pub fn save_every(&self) -> Duration {
        Duration::from_millis(self.save_every_ms)
    }

    /// The first number of the build's version.
    #[must_use]
    pub fn major(&self) -> u64 {
        // `parse_build` let only semvers in; a value made by hand that is none counts as the oldest build.
        semver::Version::parse(self.build.as_str()).map_or(1, |version| version.major)
    }
}

fn parse_build(text: &str) -> Result<BuildVersion, String> {
    semver::Version::parse(text).map_err(|e| format!("not a semver: {e}"))?;
    BuildVersion::new(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn defaults_and_repeated_faults_parse() {
        let args = Cli::parse_from(["stub"]).args;
        assert_eq!(args.build.as_str(), "1.9.0");
        assert_eq!(args.major(), 1);
        let args =
            Cli::parse_from(["stub", "--build", "2.0.0", "--fault", "hang", "--fault", "never-ready,hang=1s"]).args;
        assert_eq!(args.major(), 2);
        assert_eq!(args.faults, [Fault::Hang(Duration::ZERO), Fault::NeverReady, Fault::Hang(Duration::from_secs(1))]);
    }

    #[test]
    fn what_cannot_be_is_refused_at_the_command_line() {
        for bad in [["--build", "two"], ["--fault", "explode"], ["--save-every-ms", "1"]] {
            assert!(Cli::try_parse_from(["stub", bad[0], bad[1]]).is_err(), "{bad:?}");
        }
    }
}
