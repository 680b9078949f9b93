//! What a command prints on stdout: a table for people, or JSON and YAML for scripts (protobuf's own JSON mapping).

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{ContentArrangement, Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::exit::{Code, Failure};

/// The form of a command's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON object (or one a line, with --watch).
    Json,
    /// YAML.
    Yaml,
}

/// Knows every message by name, so that it can be printed as JSON without a second definition of its fields.
pub(crate) struct Printer {
    pool: DescriptorPool,
    format: Format,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        let pool = DescriptorPool::decode(tidegate_proto::DESCRIPTORS).expect("the descriptors are compiled in");
        Self { pool, format }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// The JSON of a message of `tidegate.v1`. Ids of 16 bytes are shown as UUIDs.
    pub(crate) fn value(&self, name: &str, message: &impl Message) -> Result<Value, Failure> {
        let broken = |why: String| Failure::new(Code::Failure, format!("cannot print {name}: {why}"));
        let descriptor = self
            .pool
            .get_message_by_name(&format!("tidegate.v1.{name}"))
            .ok_or_else(|| broken("no such message".to_owned()))?;
        let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
            .map_err(|error| broken(error.to_string()))?;
        let options = SerializeOptions::new()
            .skip_default_fields(false)
            .stringify_64_bit_integers(false)
            .use_proto_field_name(true);
        let mut value = dynamic
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| broken(error.to_string()))?;
        readable_ids(&mut value);
        Ok(value)
    }

    /// Prints a message: as JSON or YAML, or with `table` for people.
    pub(crate) fn print<M: Message>(
        &self,
        name: &str,
        message: &M,
        table: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let text = table(message);
                if !text.is_empty() {
                    say(text.trim_end())?;
                }
            }
            Format::Json | Format::Yaml => self.print_value(&self.value(name, message)?)?,
        }
        Ok(())
    }

    /// Prints a value as one JSON object (pretty on its own, one line in a watch) or one YAML document.
    pub(crate) fn print_value(&self, value: &Value) -> Result<(), Failure> {
        let broken = |why: String| Failure::new(Code::Failure, format!("cannot print the answer: {why}"));
        match self.format {
            Format::Yaml => {
                let text = serde_yaml_ng::to_string(value).map_err(|error| broken(error.to_string()))?;
                say(&format!("---\n{}", text.trim_end()))
            }
            Format::Json | Format::Table => {
                say(&serde_json::to_string_pretty(value).map_err(|error| broken(error.to_string()))?)
            }
        }
    }

    /// Prints one step of a watch: a JSON line, a YAML document, or the text.
    pub(crate) fn print_step<M: Message>(
        &self,
        name: &str,
        message: &M,
        table: impl FnOnce(&M) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => say(&self.value(name, message)?.to_string())?,
            Format::Table | Format::Yaml => self.print(name, message, table)?,
        }
        Ok(())
    }
}

/// Prints a text and a line's end on stdout, and nothing stays in a buffer.
///
/// # Errors
/// [`Code::PipeClosed`] when nobody reads any more, as after `| head -1`.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Prints a line of progress on stderr. Whoever closed it does not want to know.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Protobuf's JSON shows bytes as base64; an id is easier to search for as a UUID, a digest as hex.
fn readable_ids(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let bytes = |field: &Value| field.as_str().and_then(|text| STANDARD.decode(text).ok());
                match name.as_str() {
                    "session_id" | "instance" => {
                        if let Some(id) = bytes(field).and_then(|b| uuid::Uuid::from_slice(&b).ok()) {
                            *field = Value::String(id.to_string());
                        }
                    }
                    "assets_digest" => {
                        if let Some(digest) = bytes(field) {
                            *field = Value::String(hex(&digest));
                        }
                    }
                    _ => readable_ids(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(readable_ids),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A table without lines, as command-line tools print them.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // Trailing blanks confuse people who copy a line.
    table.to_string().lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// "key  value" lines.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(k, _)| k.len()).max().unwrap_or(0);
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key:width$}  {value}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_proto::v1;

    #[test]
    fn json_has_enum_names_numbers_and_readable_ids() {
        let row = v1::SessionRow {
            session_id: uuid::Uuid::from_u128(5).as_bytes().to_vec(),
            epoch: 7,
            state: v1::SessionState::Playing as i32,
            ..Default::default()
        };
        let value = Printer::new(Format::Json).value("SessionRow", &row).unwrap();
        assert_eq!(value["session_id"], "00000000-0000-0000-0000-000000000005");
        assert_eq!(value["epoch"], 7);
        assert_eq!(value["state"], "SESSION_STATE_PLAYING");
    }

    #[test]
    fn a_table_has_no_lines_and_no_blanks_at_its_edges() {
        let rows = [["env-1", "active", ""], ["environment-2", "draining", "yes"]];
        let text = table(&["id", "phase", "accepting"], rows.map(|row| row.map(str::to_owned).to_vec()));
        insta::assert_snapshot!(text, @r"
        ID             PHASE     ACCEPTING
        env-1          active
        environment-2  draining  yes
        ");
    }

    #[test]
    fn facts_leave_out_what_is_empty() {
        let text = facts(&[("id", "a".to_owned()), ("reason", String::new()), ("phase", "ready".to_owned())]);
        insta::assert_snapshot!(text, @r"
        id      a
        phase   ready
        ");
    }
}
