//! `campaign`: see `tests/campaign --help`. Exit code 0: no rule was broken; 1: some were; 2: wrong usage.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Parser;
use tidegate_judge::verdict::Verdict;
use tidegate_tests::campaign::{self, Options};
use tidegate_tests::cluster::world_line;

/// Runs a populated realm under a seeded schedule of faults and judges what came of it.
#[derive(Debug, Parser)]
#[command(name = "tests/campaign")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// The folder that this process, started again by itself, works in.
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, desk, command @ ..] = &words[..]
        && word == world_line::WORD
    {
        return Err(world_line::become_world(desk, command).into());
    }
    let Arguments { options, folder } = Arguments::parse();
    if options.print {
        print!("{}", options.schedule());
        return Ok(ExitCode::SUCCESS);
    }
    let Some(folder) = folder else { return begin(&options) };
    tidegate_events::start("campaign");
    let verdict = campaign::run(&options, &folder, std::env::current_exe()?);
    report(&options, &verdict)
}

/// Makes the folder and starts this program again with the events' variable set, which all processes inherit.
fn begin(options: &Options) -> anyhow::Result<ExitCode> {
    let temporary = tempfile::tempdir()?;
    let folder = options.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    if options.keep.is_some() {
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let folder = folder.canonicalize()?;
    let events = folder.join("events");
    std::fs::create_dir(&events).with_context(|| format!("make {}", events.display()))?;
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).arg("--folder").arg(&folder).env(tidegate_events::VARIABLE, &events);
    if options.keep.is_some() {
        return Err(again.exec().into());
    }
    let status = again.status()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

fn report(options: &Options, verdict: &Verdict) -> anyhow::Result<ExitCode> {
    println!("{verdict}");
    if let Some(out) = &options.out {
        let text = match out.extension() {
            Some(extension) if extension == "json" => serde_json::to_string_pretty(verdict)?,
            _ => verdict.to_string(),
        };
        std::fs::write(out, text).with_context(|| format!("write {}", out.display()))?;
    }
    let broken = verdict.broken();
    for check in &broken {
        eprintln!("rule {} is broken: {} {} of {}", check.rule, check.name, check.violations, check.of);
    }
    if broken.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let words: Vec<String> = std::env::args().skip(1).take_while(|word| word != "--folder").collect();
    eprintln!("again (seed {}): tests/campaign {}", options.seed, words.join(" "));
    Ok(ExitCode::from(1))
}
