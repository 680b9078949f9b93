//! A value from a variable or a flag: text, whose type only the struct knows.

use toml::{Table, Value};

use crate::Settings;

/// Reads `text` as the value of `key`: as a string, as TOML, or as a list separated by commas, whichever its type takes.
///
/// The error is what is wrong with the value.
pub(crate) fn read<C: Settings>(key: &str, text: &str) -> Result<Value, String> {
    let list = || text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| Value::String(s.to_owned()));
    let candidates =
        [Some(Value::String(text.to_owned())), text.parse::<Value>().ok(), Some(Value::Array(list().collect()))];
    let mut problems: Vec<String> = Vec::new();
    for value in candidates.into_iter().flatten() {
        let mut alone = Table::new();
        put(&mut alone, key, value.clone());
        match alone.try_into::<C>() {
            Ok(_) => return Ok(value),
            Err(error) => problems.push(error.message().to_owned()),
        }
    }
    // "Wrong type" speaks of a form that was not meant; anything else speaks of the value.
    let telling = problems.iter().rfind(|problem| !problem.starts_with("invalid type"));
    let problem = telling.or(problems.first()).cloned().unwrap_or_default();
    Err(format!("\"{text}\" cannot be used: {problem}"))
}

/// Puts a value at a dotted key.
pub(crate) fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// The value at a dotted key.
pub(crate) fn get<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => get(table.get(section)?.as_table()?, rest),
    }
}
