//! One event as a line of JSON, made in place.

use std::fmt::{Display, Write as _};

use serde::Serialize;
use tidegate_types::Mono;

/// Fields that would make a line longer than this, in bytes, are left out and counted in its field `left_out`.
const LONGEST: usize = 8 * 1024;

/// A line that is being written. Keys are plain words: they are not escaped.
#[derive(Debug)]
pub struct Line {
    json: String,
    left_out: u32,
}

impl Line {
    pub(crate) fn new(at: Mono, process: &str, event: &str) -> Self {
        let mut line = Self { json: String::with_capacity(256), left_out: 0 };
        // Writing to a string cannot fail.
        let _ = write!(line.json, "{{\"at_us\":{}", at.0);
        line.field("process", &process);
        line.field("event", &event);
        line
    }

    /// Adds a field. What cannot be serialised (a map whose keys are no text) is left out.
    pub fn field(&mut self, key: &str, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) if self.json.len() + key.len() + json.len() < LONGEST => {
                let _ = write!(self.json, ",\"{key}\":{json}");
            }
            Ok(_) | Err(_) => self.left_out += 1,
        }
    }

    /// Adds a field as text.
    pub fn text(&mut self, key: &str, value: &impl Display) {
        self.field(key, &value.to_string());
    }

    pub(crate) fn finish(mut self) -> String {
        if self.left_out > 0 {
            let _ = write!(self.json, ",\"left_out\":{}", self.left_out);
        }
        self.json.push_str("}\n");
        self.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(add: impl FnOnce(&mut Line)) -> serde_json::Value {
        let mut line = Line::new(Mono(7), "gw \"1\"", "login");
        add(&mut line);
        let text = line.finish();
        assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text:?}");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn fields_are_escaped_and_typed() {
        let value = line(|line| {
            line.field("n", &3);
            line.field("none", &None::<u64>);
            line.text("who", &"a\n\"b\"");
        });
        let expected = serde_json::json!({
            "at_us": 7, "process": "gw \"1\"", "event": "login", "n": 3, "none": null, "who": "a\n\"b\""
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_line_has_a_longest_length_and_says_what_it_left_out() {
        let value = line(|line| {
            line.field("long", &"x".repeat(LONGEST));
            line.field("short", &1);
        });
        assert_eq!((&value["left_out"], &value["short"], value.get("long")), (&1.into(), &1.into(), None));
    }
}
