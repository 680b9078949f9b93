//! What an operator is told about a configuration: every key, its value, where that came from, and what it is for.

use serde::Serialize;
use toml::{Table, Value};

use crate::declare::each;
use crate::{Loaded, Origin, Settings, text, variable};

/// Comments are broken at this column.
const WIDTH: usize = 100;

/// One key, explained.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The dotted key.
    pub key: String,
    /// Its value; `None` when it is not set and has no default.
    pub value: Option<Value>,
    /// Where the value came from.
    pub from: Origin,
    /// The environment variable that sets it.
    pub variable: String,
    /// What it is for, its unit, and the reason for its default.
    pub doc: String,
}

impl<C: Settings> Loaded<C> {
    /// Every key, in the order of the declaration.
    #[must_use]
    pub fn explain(&self) -> Vec<Explained> {
        // A configuration that was read from TOML can be written as TOML.
        let values = Table::try_from(&self.config).unwrap_or_default();
        let mut keys = Vec::new();
        each(C::KEYS, "", &mut |key, declared| {
            let doc = declared.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
            keys.push(Explained {
                value: text::get(&values, &key).cloned(),
                from: self.origin(&key),
                variable: variable::<C>(&key),
                doc: doc.trim().to_owned(),
                key,
            });
        });
        keys
    }

    /// The same as a TOML file with comments, which can be used as the configuration.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        let keys = self.explain();
        for key in &keys {
            let (of, name) = key.key.rsplit_once('.').unwrap_or(("", &key.key));
            if of != section {
                out.push_str(&format!("[{of}]\n\n"));
                section = of;
            }
            for line in wrap(&key.doc, WIDTH) {
                out.push_str(&format!("# {line}\n"));
            }
            match &key.from {
                Origin::Variable(name) | Origin::Flag(name) => out.push_str(&format!("# from {name}\n")),
                other => out.push_str(&format!("# from {other} | {}\n", key.variable)),
            }
            match &key.value {
                Some(value) => out.push_str(&format!("{name} = {value}\n\n")),
                None => out.push_str(&format!("# {name} = (not set)\n\n")),
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
