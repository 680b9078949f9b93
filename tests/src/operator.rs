//! The operator at the terminal: every step of a test is a command line of the real binary, its answer read as JSON.

use std::process::Stdio;

use serde_json::Value;

use crate::process::command;
use crate::wait;

/// Drives one manager.
#[derive(Debug, Clone)]
pub struct Operator {
    manager: String,
}

/// A command that did not end with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its exit code.
    pub code: i32,
    /// What it said on stderr.
    pub message: String,
}

impl Operator {
    /// An operator of the manager at `address`.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self { manager: format!("http://{address}") }
    }

    /// Runs `tidegate <line>` with `-o json`. Words are separated by blanks.
    ///
    /// # Errors
    /// [`Refusal`] when the exit code is not 0.
    pub fn try_run(&self, line: &str) -> Result<Value, Refusal> {
        self.try_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// As [`Operator::try_run`], with words that may hold blanks. Of a watch, the last answer.
    ///
    /// # Errors
    /// [`Refusal`] when the exit code is not 0.
    ///
    /// # Panics
    /// When the binary cannot be run, or prints what is not JSON.
    pub fn try_words(&self, words: &[&str]) -> Result<Value, Refusal> {
        // Before "--": what follows it belongs to a build's command.
        let split = words.iter().position(|w| *w == "--").unwrap_or(words.len());
        let output = command()
            .args(&words[..split])
            .args(["-o", "json", "--manager", &self.manager, "--actor", "test"])
            .args(&words[split..])
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Refusal { code: output.status.code().unwrap_or(-1), message });
        }
        // A watch prints one object a line; its last is its answer.
        let objects = serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<Vec<Value>, _>>();
        let last = objects.unwrap_or_else(|error| panic!("{words:?} printed {text:?}: {error}")).pop();
        Ok(last.unwrap_or_else(|| panic!("{words:?} printed nothing")))
    }

    /// Runs it; it must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn run(&self, line: &str) -> Value {
        self.try_run(line).unwrap_or_else(|refusal| panic!("tidegate {line}: {refusal:?}"))
    }

    /// Runs it; it must be refused with this exit code and a message that contains `word`.
    ///
    /// # Panics
    /// When it is not.
    pub fn refused(&self, line: &str, code: i32, word: &str) {
        let refusal = self.try_run(line).expect_err(line);
        assert_eq!(refusal.code, code, "tidegate {line}: {refusal:?}");
        assert!(refusal.message.contains(word), "tidegate {line}: {refusal:?} lacks {word:?}");
    }

    /// The rollout, when it has reached one of these states (their names as in the protos, without prefix).
    #[must_use]
    pub fn rollout_ends(&self, id: &str, states: &[&str]) -> Value {
        wait::until(&format!("rollout {id} to be {states:?}"), || {
            let rollout = self.try_run(&format!("rollout get {id}")).ok()?;
            let state = rollout["state"].as_str()?.strip_prefix("ROLLOUT_STATE_")?.to_owned();
            states.contains(&state.as_str()).then_some(rollout)
        })
    }

    /// All environments of a realm, retired ones too.
    #[must_use]
    pub fn environments(&self, realm: &str) -> Vec<Value> {
        self.run(&format!("env list --all --realm {realm}"))["environments"].as_array().cloned().unwrap_or_default()
    }

    /// The realm's accepting environment.
    #[must_use]
    pub fn accepting(&self, realm: &str) -> String {
        self.run(&format!("route show {realm}"))["accepting"].as_str().unwrap_or_default().to_owned()
    }

    /// The route generation of a realm.
    #[must_use]
    pub fn generation(&self, realm: &str) -> u64 {
        self.run(&format!("route show {realm}"))["generation"].as_u64().unwrap_or_default()
    }

    /// One environment.
    #[must_use]
    pub fn environment(&self, id: &str) -> Value {
        self.run(&format!("env get {id}"))
    }

    /// Waits until an environment has this phase (its name as in the protos, without prefix).
    pub fn phase(&self, id: &str, phase: &str) {
        wait::until(&format!("{id} to be {phase}"), || {
            (self.environment(id)["phase"] == format!("PHASE_{phase}")).then_some(())
        });
    }

    /// The only gateway.
    #[must_use]
    pub fn gateway(&self) -> Value {
        self.run("route gateways")["gateways"][0].clone()
    }

    /// A drain.
    #[must_use]
    pub fn drain(&self, environment: &str) -> Value {
        self.run(&format!("drain get {environment}"))
    }

    /// Waits until a drain is as it should be, and gives it.
    pub fn drains(&self, environment: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, || Some(self.drain(environment)).filter(&condition))
    }

    /// Waits until a step of a rollout has this state (its name as in the protos, without prefix).
    pub fn step(&self, rollout: &str, name: &str, state: &str) {
        wait::until(&format!("step {name} of {rollout} to be {state}"), || {
            let rollout = self.run(&format!("rollout get {rollout}"));
            let step = rollout["steps"].as_array()?.iter().find(|s| s["name"] == name)?.clone();
            (step["state"] == format!("STEP_STATE_{state}")).then_some(())
        });
    }

    /// The servers of an environment.
    #[must_use]
    pub fn servers(&self, environment: &str) -> Vec<Value> {
        self.run(&format!("fleet servers {environment}"))["servers"].as_array().cloned().unwrap_or_default()
    }
}

/// A field of a JSON object as text.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{value} has no {field}")).to_owned()
}
