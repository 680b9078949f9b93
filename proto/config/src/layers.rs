//! The sources of a configuration, each winning over those before it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::declare::names;
use crate::{ConfigError, Origin, Settings, file, hint, text, variable};

/// Where to look. Nothing given means the defaults.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    file: Option<File>,
    variables: Vec<(OsString, OsString)>,
    flags: Vec<(&'static str, &'static str, String)>,
}

#[derive(Debug, Clone)]
enum File {
    Path(PathBuf),
    Text { name: String, text: String },
}

/// A checked configuration, and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded<C> {
    /// The configuration.
    pub config: C,
    file: Option<String>,
    origins: BTreeMap<String, Origin>,
}

impl Layers {
    /// Only the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A TOML file, if one was named.
    #[must_use]
    pub fn file(mut self, path: Option<&Path>) -> Self {
        self.file = path.map(|path| File::Path(path.to_owned()));
        self
    }

    /// A file that has been read already; `name` stands for it in errors.
    #[must_use]
    pub fn text(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.file = Some(File::Text { name: name.into(), text: text.into() });
        self
    }

    /// Environment variables: those that begin with [`Settings::PREFIX`] count.
    #[must_use]
    pub fn variables(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.variables.extend(variables);
        self
    }

    /// A flag's value for a key, if the flag was given.
    #[must_use]
    pub fn flag(mut self, flag: &'static str, key: &'static str, value: Option<impl ToString>) -> Self {
        self.flags.extend(value.map(|value| (flag, key, value.to_string())));
        self
    }

    /// Reads every source and checks every value.
    ///
    /// # Errors
    /// One line naming the source and the key: unreadable file, bad TOML, unknown key, wrong type, value out of range.
    pub fn load<C: Settings>(self) -> Result<Loaded<C>, ConfigError> {
        let mut origins = BTreeMap::new();
        let mut values = toml::Table::new();
        let mut file = None;
        if let Some((name, text)) = self.file.map(File::read).transpose()? {
            let said = file::parse::<C>(&name, &text)?;
            let lines = said.lines.into_iter();
            origins.extend(lines.map(|(key, line)| (key, Origin::File { path: name.clone(), line })));
            values = said.values;
            file = Some(name);
        }
        for (name, key, text) in given::<C>(&self.variables)? {
            let value = text::read::<C>(&key, &text).map_err(|why| ConfigError::new(&name, format!("{key}: {why}")))?;
            text::put(&mut values, &key, value);
            origins.insert(key, Origin::Variable(name));
        }
        for (flag, key, text) in self.flags {
            let value = text::read::<C>(key, &text).map_err(|why| ConfigError::new(flag, format!("{key}: {why}")))?;
            text::put(&mut values, key, value);
            origins.insert(key.to_owned(), Origin::Flag(flag.to_owned()));
        }
        let name = file.clone().unwrap_or_else(|| "defaults".to_owned());
        let config: C = values.try_into().map_err(|error: toml::de::Error| ConfigError::new(name, error.message()))?;
        let loaded = Loaded { config, file, origins };
        match loaded.config.check() {
            Ok(()) => Ok(loaded),
            Err(problem) => {
                let (source, text) = loaded.origin(&problem.key).parts(&problem.to_string());
                Err(ConfigError::new(source, text))
            }
        }
    }
}

impl File {
    /// Its name and its text.
    fn read(self) -> Result<(String, String), ConfigError> {
        match self {
            Self::Text { name, text } => Ok((name, text)),
            Self::Path(path) => {
                let name = path.display().to_string();
                match std::fs::read_to_string(&path) {
                    Ok(text) => Ok((name, text)),
                    Err(error) => Err(ConfigError::new(name, format!("cannot be read: {error}"))),
                }
            }
        }
    }
}

/// The variables that are keys, as (variable, key, text). One that looks like a key and is none is an error.
fn given<C: Settings>(variables: &[(OsString, OsString)]) -> Result<Vec<(String, String, String)>, ConfigError> {
    let known: BTreeMap<String, String> = names(C::KEYS).into_iter().map(|key| (variable::<C>(&key), key)).collect();
    let mut given = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(C::PREFIX)) else { continue };
        let Some(key) = known.get(name) else {
            let meant = hint(name, known.keys().map(String::as_str));
            return Err(ConfigError::new(name, format!("unknown key{meant}")));
        };
        let text = value.to_str().ok_or_else(|| ConfigError::new(name, format!("{key}: is not UTF-8")))?;
        given.push((name.to_owned(), key.clone(), text.to_owned()));
    }
    Ok(given)
}

impl<C: Settings> Loaded<C> {
    /// Where a key's value came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or_default()
    }

    /// Puts the source before a problem that was found later (a port that is taken, for example) and whose text begins
    /// with the key, as in `listen: cannot listen on …`. A text without a key is named by the file, if there is one.
    #[must_use]
    pub fn blame(&self, text: &str) -> String {
        let key = text.split(": ").next().unwrap_or_default();
        if names(C::KEYS).iter().any(|known| known == key) {
            let (source, text) = self.origin(key).parts(text);
            return format!("{source}: {text}");
        }
        match &self.file {
            Some(file) => format!("{file}: {text}"),
            None => text.to_owned(),
        }
    }
}
