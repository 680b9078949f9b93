//! The verdict for people (Markdown, which is also good plain text).

use std::fmt::{self, Display, Write as _};

use super::{Check, Figure, Verdict};

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
        writeln!(f, "Seed {seed}, {} events ({} torn lines).\n", self.events, self.torn_lines)?;
        self.rules(f)?;
        self.times(f)?;
        self.ways_back(f)?;
        let examples: Vec<&Check> = self.checks.iter().filter(|check| !check.examples.is_empty()).collect();
        for check in examples {
            writeln!(f, "\nRule {}, {}:\n", check.rule, check.name)?;
            for example in &check.examples {
                writeln!(f, "- {example}")?;
            }
        }
        Ok(())
    }
}

impl Verdict {
    fn rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.checks.iter().map(|check| {
            let rule = if check.rule == 0 { "–".to_owned() } else { check.rule.to_string() };
            let of = if check.of == 0 { "none looked at".to_owned() } else { check.of.to_string() };
            [rule, check.name.to_owned(), check.violations.to_string(), of]
        });
        table(f, ["rule", "must not be", "violations", "of"], rows)
    }

    fn times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let rows = self.figures.iter().filter(|figure| figure.count > 0).map(|figure| {
            let [count, p50, p99, max] = numbers(figure);
            let goal = figure.goal_p99_ms.map_or_else(String::new, |goal| {
                format!("p99 {goal} ms{}", if figure.misses() { ", MISSED" } else { "" })
            });
            [figure.name.to_owned(), count, p50, p99, max, goal]
        });
        table(f, ["time", "count", "p50 ms", "p99 ms", "max ms", "goal"], rows)
    }

    fn ways_back(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let rows = self.recoveries.iter().map(|recovery| {
            let [_, p50, p99, max] = numbers(&recovery.figure);
            [recovery.kind.clone(), recovery.struck.to_string(), p50, p99, max, recovery.never.to_string()]
        });
        table(f, ["fault", "struck", "back in play p50 ms", "p99 ms", "max ms", "not before the next"], rows)
    }
}

fn numbers(figure: &Figure) -> [String; 4] {
    let ms = |ms: f64| format!("{ms:.0}");
    [figure.count.to_string(), ms(figure.p50_ms), ms(figure.p99_ms), ms(figure.max_ms)]
}

fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> fmt::Result {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    f.write_str(&text)
}

#[cfg(test)]
mod tests {
    use super::super::evidence::told::evidence;
    use super::super::judge;

    #[test]
    fn a_verdict_names_the_broken_rule_with_an_example() {
        let verdict = judge(&evidence(&[
            "1 c campaign_started seed=7",
            "4 w-1 save character=ann epoch=1 was=2 accepted=true",
            "5 p player_welcome player=ann session=s took_us=5000",
        ]));
        let broken = verdict.broken();
        assert_eq!(broken.len(), 1);
        let text = verdict.to_string();
        for part in ["Seed 7", "| 1 | stale-epoch writes accepted | 1 | 1 |", "save of ann at epoch 1", "| login | 1 |"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(serde_json::to_string(&verdict).unwrap().contains("stale-epoch writes accepted"));
    }

    #[test]
    fn a_run_that_left_nothing_proves_nothing() {
        let verdict = judge(&evidence(&[]));
        assert!(verdict.broken().is_empty());
        assert!(verdict.to_string().contains("none looked at"));
    }
}
