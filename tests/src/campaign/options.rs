//! What a campaign is told on its command line.

use std::path::PathBuf;

use tidegate_judge::schedule::{Kind, SABOTAGE, Schedule};

/// A populated realm under a seeded schedule of faults, judged by what everybody wrote down.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Which schedule. The same seed has the same faults at the same times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long the schedule is, in minutes; fractions are well.
    #[arg(long, default_value_t = 2.0)]
    pub minutes: f64,
    /// How many gateways.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub gateways: u16,
    /// How many players.
    #[arg(long, default_value_t = 60)]
    pub players: u32,
    /// Which faults: words or beginnings of words as `--print` shows them, separated by commas; `all` or `none`.
    #[arg(long, default_value = "all", value_parser = kinds)]
    pub faults: Kinds,
    /// Operators say nothing.
    #[arg(long)]
    pub silent: bool,
    /// Keep everybody's files in this folder, which must not exist yet.
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
    /// Write the verdict there: JSON if the name ends so, else Markdown.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Break a rule on purpose, under a short schedule that is aimed at it (debug builds only): the campaign must notice.
    /// One of skip_epoch_check, skip_lease_check, ack_before_commit, trust_directory, forget_drain.
    #[arg(long, value_name = "WORD", value_parser = SABOTAGE)]
    pub sabotage: Option<String>,
    /// The schedule that is aimed at this word of sabotage, with nothing broken: must end well.
    #[arg(long, value_name = "WORD", value_parser = SABOTAGE, conflicts_with = "sabotage")]
    pub aim: Option<String>,
    /// Print the schedule and do nothing.
    #[arg(long)]
    pub print: bool,
}

/// Kinds of faults, as typed.
#[derive(Debug, Clone)]
pub struct Kinds(pub Vec<Kind>);

fn kinds(list: &str) -> Result<Kinds, String> {
    Kind::parse_list(list).map(Kinds).map_err(|word| {
        let words: Vec<&str> = Kind::ALL.into_iter().map(Kind::word).collect();
        format!("\"{word}\" begins none of {}", words.join(", "))
    })
}

impl Options {
    /// What strikes when.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let aimed = self.aimed_at().and_then(|word| Schedule::aimed(word, self.seed));
        aimed.unwrap_or_else(|| Schedule::new(self.seed, self.length_ms(), &self.faults.0))
    }

    /// The manager is killed whenever it has acknowledged something.
    #[must_use]
    pub fn strikes_at_acknowledgements(&self) -> bool {
        self.aimed_at() == Some("ack_before_commit")
    }

    fn aimed_at(&self) -> Option<&str> {
        self.sabotage.as_deref().or(self.aim.as_deref())
    }

    fn length_ms(&self) -> u64 {
        (self.minutes.clamp(0.0, 100_000.0) * 60_000.0) as u64
    }
}
