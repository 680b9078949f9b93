//! The documents tell the truth where a program can check it.

use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_world_server_in_the_readme_is_the_example_that_compiles() {
    let example = read("sdk/world/examples/minimal.rs");
    assert!(read("README.md").contains(example.trim_end()), "copy sdk/world/examples/minimal.rs into README.md");
}

#[test]
fn every_crate_stands_on_the_map() {
    let map = read("ARCHITECTURE.md");
    for member in read("Cargo.toml").lines().skip_while(|l| *l != "members = [").skip(1).take_while(|l| *l != "]") {
        let folder = member.trim().trim_matches([',', '"']);
        assert!(map.contains(&format!("| `{folder}` |")), "{folder} is not in ARCHITECTURE.md's map");
    }
}

#[test]
fn the_pure_crates_have_no_io_in_their_manifests() {
    for folder in ["proto/types", "gateway/core", "fleet-manager/core"] {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        for crate_name in ["tokio", "tonic", "quinn", "redis", "rusqlite", "hyper", "reqwest"] {
            let used =
                manifest.lines().any(|l| l.starts_with(crate_name) && !l.starts_with(&format!("{crate_name}-types")));
            assert!(!used, "{folder} uses {crate_name}");
        }
    }
}
