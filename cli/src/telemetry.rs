//! Logs: to stderr, as text or JSON, filtered by `TIDEGATE_LOG` (default `info`).

use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts logging; `default` is the filter when `TIDEGATE_LOG` is not set.
pub(crate) fn start(format: LogFormat, default: &str) -> Result<(), Failure> {
    let wanted = std::env::var("TIDEGATE_LOG").unwrap_or_else(|_| default.to_owned());
    let filter = EnvFilter::try_new(&wanted)
        .map_err(|error| Failure::usage(format!("TIDEGATE_LOG is \"{wanted}\", which is not a filter: {error}")))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
