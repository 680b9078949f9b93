//! The corpora, and seeded mutations of them, through the same bodies as the fuzzer's.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tidegate_fuzz::{Body, TARGETS};

/// Mutations of each target's corpus; a few seconds all together.
const MUTATIONS: u64 = 5_000;
/// Longest mutation, in bytes.
const MAX_LENGTH: usize = 20_000;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs the body and says which input it was, if it fails.
fn run(target: &str, body: Body, what: &str, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
        panic!("{target}, {what}: {:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn every_target_has_a_corpus_and_a_body() {
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    let listed = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(listed(&folder().join("fuzz_targets")), names, "fuzz_targets");
    assert_eq!(listed(&folder().join("corpus")), names, "corpus");
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(corpus(name).len() >= 4, "{name}: too few seeds");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in Cargo.toml");
        let target = fs::read_to_string(folder().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("tidegate_fuzz::{name}(data)")), "{name} calls another body");
    }
}

#[test]
fn the_corpora_hold() {
    for (target, body) in TARGETS {
        run(target, *body, "empty", b"");
        for (name, input) in corpus(target) {
            run(target, *body, &name, &input);
        }
    }
}

#[test]
fn mutations_of_the_corpora_hold() {
    let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for (target, body) in TARGETS {
        let seeds: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
        let mut dice = Pcg64Mcg::seed_from_u64(seed);
        for index in 0..MUTATIONS {
            let input = mutate(&seeds, &mut dice);
            run(target, *body, &format!("mutation {index} of seed {seed}"), &input);
        }
    }
}

/// A seed with a few changes: bits, bytes, numbers at their limits, pieces cut, doubled, or taken from another seed.
fn mutate(seeds: &[Vec<u8>], dice: &mut Pcg64Mcg) -> Vec<u8> {
    let mut input = seeds[dice.random_range(0..seeds.len())].clone();
    for _ in 0..dice.random_range(1..5) {
        let at = dice.random_range(0..=input.len());
        let end = dice.random_range(at..=input.len().min(at + 64));
        match dice.random_range(0..8) {
            0 if at < input.len() => input[at] ^= 1 << dice.random_range(0..8),
            1 if at < input.len() => input[at] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff][dice.random_range(0..8)],
            2 => input.truncate(at),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            5 => input.insert(at, dice.random()),
            6 if at < input.len() => input[at] = dice.random_range(b' '..=b'~'),
            _ => {
                let other = &seeds[dice.random_range(0..seeds.len())];
                let from = dice.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input.truncate(MAX_LENGTH);
    input
}
