//! A TOML file: its values, and the line of each key.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::declare::{Key, names};
use crate::{ConfigError, Settings, hint};

/// What a file says.
pub(crate) struct File {
    pub(crate) values: toml::Table,
    /// The line of every key that has a value, from 1.
    pub(crate) lines: BTreeMap<String, usize>,
}

/// Where a key and its value stand in the text.
struct Place {
    key: String,
    span: Range<usize>,
    line: usize,
}

/// Reads a file's text: its syntax, that every key exists, and that every value has its type.
pub(crate) fn parse<C: Settings>(name: &str, text: &str) -> Result<File, ConfigError> {
    let bad = |line: usize, problem: String| ConfigError::new(name, format!("line {line}: {problem}"));
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.get(..at).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
        let rest = text.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        // A line that is not understood still shows its key to people.
        let key = format!("{line}{rest}").split_once('=').map(|(key, _)| format!("{}: ", key.trim()));
        bad(line_of(text, at), format!("{}{}", key.unwrap_or_default(), error.message()))
    })?;
    let mut places = Vec::new();
    collect(text, table.get_ref(), C::KEYS, C::KEYS, "", &mut places).map_err(|(line, problem)| bad(line, problem))?;
    let broken = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let place = places.iter().rfind(|place| place.span.contains(&at));
        let key = place.map(|place| format!("{}: ", place.key)).unwrap_or_default();
        bad(place.map_or_else(|| line_of(text, at), |place| place.line), format!("{key}{}", error.message()))
    };
    toml::from_str::<C>(text).map_err(broken)?;
    let values = toml::from_str(text).map_err(broken)?;
    Ok(File { values, lines: places.into_iter().map(|place| (place.key, place.line)).collect() })
}

/// Walks the file beside the declared keys. The error is a line and what is wrong there.
fn collect(
    text: &str,
    table: &DeTable<'_>,
    keys: &'static [Key],
    all: &'static [Key],
    prefix: &str,
    places: &mut Vec<Place>,
) -> Result<(), (usize, String)> {
    for (key, value) in table {
        let word: &str = key.get_ref();
        let name = if prefix.is_empty() { word.to_owned() } else { format!("{prefix}.{word}") };
        let line = line_of(text, key.span().start);
        let Some(known) = keys.iter().find(|known| known.name == word) else {
            return Err((line, format!("unknown key \"{name}\"{}", closest(&name, word, all))));
        };
        match value.get_ref() {
            DeValue::Table(inner) if !known.inner.is_empty() => {
                collect(text, inner, known.inner, all, &name, places)?;
            }
            _ => places.push(Place { key: name, span: key.span().start..value.span().end.max(key.span().end), line }),
        }
    }
    Ok(())
}

/// Names the key that was meant: close to what was typed, or of the same name in another section.
fn closest(name: &str, word: &str, all: &'static [Key]) -> String {
    let names = names(all);
    match names.iter().find(|known| known.rsplit('.').next() == Some(word)) {
        Some(elsewhere) => format!("; did you mean \"{elsewhere}\"?"),
        None => {
            let sections = all.iter().map(|key| key.name);
            hint(name, names.iter().map(String::as_str).chain(sections))
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
