//! A small configuration through every layer: who wins, what is refused, and how it is explained.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_config::{Layers, Loaded, Origin, Problem, Settings, settings};

settings! {
    /// A ferry.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Ferry {
        /// Where it lands. Default `127.0.0.1:1`:
        /// the nearest pier.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 1)),
        /// Its name.
        name: String = "anna".into(),
        /// Where it may go.
        piers: Vec<SocketAddr> = Vec::new(),
        /// Knots. Default 8.
        speed: f64 = 8.0,
        /// Its owner, if any.
        owner: Option<String> = None,
    }
    sections {
        /// How much it carries.
        load: Load,
    }
}

settings! {
    /// How much it carries.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Load {
        /// Cars. Default 12.
        cars: u32 = 12,
    }
}

impl Settings for Ferry {
    const PREFIX: &'static str = "TIDEGATE_FERRY_";

    fn check(&self) -> Result<(), Problem> {
        if self.load.cars == 0 { Err(Problem::new("load.cars", "is 0, must be at least 1")) } else { Ok(()) }
    }
}

fn layers(text: &str, variables: &[(&str, &str)]) -> (Layers, tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ferry.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    (Layers::new().file(Some(&path)).variables(variables), folder, path)
}

fn load(text: &str, variables: &[(&str, &str)]) -> Loaded<Ferry> {
    layers(text, variables).0.load().unwrap()
}

/// The refusal, with the folder taken off.
fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
    let (layers, folder, _) = layers(text, variables);
    let line = layers.load::<Ferry>().expect_err(text).to_string();
    line.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let (layers, _folder, path) = layers(
        "name = \"berta\"\nspeed = 9\nlisten = \"127.0.0.1:2\"",
        &[("TIDEGATE_FERRY_NAME", "clara"), ("TIDEGATE_FERRY_SPEED", "10"), ("TIDEGATE_FERRY", "other"), ("HOME", "x")],
    );
    let loaded: Loaded<Ferry> = layers.flag("--name", "name", Some("dora")).load().unwrap();
    let expected =
        Ferry { name: "dora".into(), speed: 10.0, listen: SocketAddr::from(([127, 0, 0, 1], 2)), ..Ferry::default() };
    assert_eq!(loaded.config, expected);
    assert_eq!(loaded.origin("name"), Origin::Flag("--name".into()));
    assert_eq!(loaded.origin("speed"), Origin::Variable("TIDEGATE_FERRY_SPEED".into()));
    assert_eq!(loaded.origin("listen"), Origin::File { path: path.display().to_string(), line: 3 });
    assert_eq!(loaded.origin("load.cars"), Origin::Default);
}

#[test]
fn variables_take_every_type() {
    let loaded = load(
        "",
        &[
            ("TIDEGATE_FERRY_NAME", "42"),
            ("TIDEGATE_FERRY_PIERS", "127.0.0.1:3, 127.0.0.1:4"),
            ("TIDEGATE_FERRY_OWNER", "me"),
            ("TIDEGATE_FERRY_LOAD__CARS", "3"),
        ],
    );
    assert_eq!(loaded.config.name, "42");
    assert_eq!(loaded.config.piers.len(), 2);
    assert_eq!(loaded.config.owner.as_deref(), Some("me"));
    assert_eq!(loaded.config.load.cars, 3);
    assert!(load("", &[("TIDEGATE_FERRY_PIERS", "[\"127.0.0.1:3\"]")]).config.piers.len() == 1);
}

#[test]
fn every_refusal_is_one_line_with_source_and_key() {
    for (text, variables, expected) in [
        (
            "\nlisen = \"127.0.0.1:1\"",
            [].as_slice(),
            "ferry.toml: line 2: unknown key \"lisen\"; did you mean \"listen\"?",
        ),
        ("cars = 1", &[], "ferry.toml: line 1: unknown key \"cars\"; did you mean \"load.cars\"?"),
        ("[laod]\ncars = 1", &[], "ferry.toml: line 1: unknown key \"laod\"; did you mean \"load\"?"),
        ("zebra = 1", &[], "ferry.toml: line 1: unknown key \"zebra\""),
        ("[load]\ncars = 0", &[], "ferry.toml: line 2: load.cars: is 0, must be at least 1"),
        ("[load]\ncars = 0", &[("TIDEGATE_FERRY_LOAD__CARS", "1")], ""),
        ("", &[("TIDEGATE_FERRY_LOAD__CARS", "0")], "TIDEGATE_FERRY_LOAD__CARS: load.cars: is 0, must be at least 1"),
        (
            "",
            &[("TIDEGATE_FERRY_LOAD_CARS", "1")],
            "TIDEGATE_FERRY_LOAD_CARS: unknown key; did you mean \"TIDEGATE_FERRY_LOAD__CARS\"?",
        ),
        (
            "",
            &[("TIDEGATE_FERRY_LISTEN", "nowhere")],
            "TIDEGATE_FERRY_LISTEN: listen: \"nowhere\" cannot be used: invalid socket address syntax",
        ),
        ("listen = \"nowhere\"", &[], "ferry.toml: line 1: listen: invalid socket address syntax"),
        ("load = 3", &[], "ferry.toml: line 1: load: invalid type: integer `3`, expected struct Load"),
    ] {
        if expected.is_empty() {
            load(text, variables);
            continue;
        }
        assert_eq!(refusal(text, variables), expected);
    }
    for text in ["listen = ", "name = \"a\"\nname = \"b\"", "= 3", "piers = [1]", "[load]\ncars = -1"] {
        let line = refusal(text, &[]);
        assert!(line.starts_with("ferry.toml: line ") && line.lines().count() == 1, "{text:?} -> {line}");
    }
    assert!(refusal("[load]\ncars = -1", &[]).contains("line 2: load.cars: "));
}

#[test]
fn a_problem_found_later_is_blamed_on_its_source() {
    let loaded = load("\nlisten = \"127.0.0.1:2\"", &[("TIDEGATE_FERRY_NAME", "x")]);
    let line = loaded.blame("listen: is in use");
    assert!(line.ends_with("ferry.toml: line 2: listen: is in use"), "{line}");
    assert_eq!(loaded.blame("name: is silly"), "TIDEGATE_FERRY_NAME: name: is silly");
    assert_eq!(loaded.blame("speed: is mad"), "defaults: speed: is mad");
}

#[test]
fn what_is_explained_can_be_used_as_the_file() {
    let loaded = load("speed = 9", &[("TIDEGATE_FERRY_LOAD__CARS", "7"), ("TIDEGATE_FERRY_PIERS", "127.0.0.1:3")]);
    let text = loaded.to_toml();
    assert_eq!(load(&text, &[]).config, loaded.config, "{text}");
    assert!(text.contains(
        "# Where it lands. Default `127.0.0.1:1`: the nearest pier.\n# from default | TIDEGATE_FERRY_LISTEN"
    ));
    assert!(text.contains("# from TIDEGATE_FERRY_LOAD__CARS\ncars = 7"), "{text}");
    assert!(text.contains("# owner = (not set)"));
    let keys: Vec<String> = loaded.explain().into_iter().map(|key| key.key).collect();
    assert_eq!(keys, ["listen", "name", "piers", "speed", "owner", "load.cars"]);
}

#[test]
fn a_missing_file_is_named() {
    let missing = PathBuf::from("/nonexistent/ferry.toml");
    let error = Layers::new().file(Some(&missing)).load::<Ferry>().unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/ferry.toml: cannot be read"), "{error}");
}
