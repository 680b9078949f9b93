//! Snapshots of a living world, and clones of them within the realm and into another.

use tidegate_tests::cluster::Cluster;
use tidegate_tests::crowd::{Crowd, assert_kept};
use tidegate_tests::operator::text;

#[test]
fn a_snapshot_of_a_living_world_becomes_another_realm() {
    let (cluster, blue) = Cluster::populated();
    let crowd = Crowd::enter(&cluster, "eu-1", 30, |_| {});
    let gold = cluster.audit("eu-1").gold_total;
    let snapshot = cluster.operator.run(&format!("env snapshot {blue}"));
    assert_eq!(snapshot["verified"], true, "{snapshot}");
    let id = text(&snapshot, "id");
    assert_kept(&crowd.leave());

    cluster.realm("copy-1");
    let clone = text(&cluster.operator.run(&format!("env clone {id} --realm copy-1")), "id");
    let _ = cluster.operator.run(&format!("env stage {clone} --timeout 60s"));
    let _ = cluster.operator.run(&format!("env verify {clone} --timeout 60s"));
    cluster.flip("copy-1", &clone);
    let audit = cluster.audit("copy-1");
    assert_eq!(audit.gold_total, gold, "the copy holds what the world held");
    assert!(audit.characters >= 25, "the characters came along: {audit:?}");
    // The same players, with the same names, in the copy: they are other people now.
    let crowd = Crowd::enter(&cluster, "copy-1", 20, |config| config.name_prefix = "eu-1".to_owned());
    assert_kept(&crowd.leave());
    assert_eq!(cluster.audit("eu-1").gold_total, gold, "the original is untouched");

    let verified = cluster.operator.run(&format!("snapshot verify {id}"));
    assert_eq!(verified["verified"], true);
    // One flipped byte in one blob is found.
    let blobs = cluster.data_dir().join("snapshots/blobs");
    let blob = std::fs::read_dir(blobs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    assert!(cluster.operator.try_run(&format!("snapshot verify {id}")).is_err());
}
