//! Compiles the protos with protox, so that building needs no protoc.

use std::error::Error;

const FILES: &[&str] = &[
    "tidegate/v1/audit.proto",
    "tidegate/v1/build.proto",
    "tidegate/v1/common.proto",
    "tidegate/v1/drain.proto",
    "tidegate/v1/environment.proto",
    "tidegate/v1/gateway_control.proto",
    "tidegate/v1/link.proto",
    "tidegate/v1/player.proto",
    "tidegate/v1/realm.proto",
    "tidegate/v1/rollout.proto",
    "tidegate/v1/routing.proto",
    "tidegate/v1/session.proto",
    "tidegate/v1/snapshot.proto",
    "tidegate/v1/world_control.proto",
    "tidegate/stub/v1/game.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=tidegate");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("tidegate.bin"), protox::prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .bytes(".tidegate.v1.Frozen.state")
        .bytes(".tidegate.v1.Prepare.state")
        // Requests hold these: a retry must encode to the same bytes, because its digest is compared.
        .btree_map(".tidegate.v1.Build.environment")
        .btree_map(".tidegate.v1.Fleet.environment")
        .btree_map(".tidegate.v1.DrainPolicy.extensions_ms")
        .compile_fds(descriptors)?;
    Ok(())
}
