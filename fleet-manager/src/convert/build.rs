//! Builds.

use fleet_core::BuildInfo;
use tidegate_proto::convert::{self, BadField};
use tidegate_proto::v1;
use tidegate_types::{BuildVersion, Timestamp};

use crate::builds::Build;

/// The registered build.
#[must_use]
pub fn message(build: &Build) -> v1::Build {
    let info = &build.info;
    v1::Build {
        version: info.version.to_string(),
        command: build.command.clone(),
        environment: build.environment.clone(),
        assets_path: build.assets_path.clone(),
        assets_digest: info.assets_digest.map(|digest| digest.to_vec()).unwrap_or_default(),
        state_formats_read: info.state_formats_read.clone(),
        state_format_write: info.state_format_write,
        schema_versions: info.schema_versions.clone(),
        client_versions: info.client_versions.clone(),
        created_ms: build.created.0,
    }
}

/// A build as it is registered; its assets have not been digested yet.
///
/// # Errors
/// The field that cannot be.
pub fn build(build: v1::Build, created: Timestamp) -> Result<Build, BadField> {
    let version: BuildVersion = convert::id("build.version", &build.version)?;
    semver::Version::parse(&build.version)
        .map_err(|e| BadField::new("build.version", format!("\"{version}\" is not a semver: {e}")))?;
    let Some(program) = build.command.first() else {
        return Err(BadField::new("build.command", "is empty: the first word is the program"));
    };
    // A bare name is looked for on the path by the system when it is started; a path can be checked now.
    if program.is_empty() || (program.contains('/') && !std::path::Path::new(program).is_file()) {
        return Err(BadField::new("build.command", format!("\"{program}\" is no file")));
    }
    if let Some(name) = build.environment.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
        return Err(BadField::new("build.environment", format!("\"{name}\" cannot be a variable's name")));
    }
    if build.state_formats_read.is_empty() {
        return Err(BadField::new("build.state_formats_read", "is empty: it must read at least what it writes"));
    }
    if !build.state_formats_read.contains(&build.state_format_write) {
        let why = format!("{} is not among the formats it reads", build.state_format_write);
        return Err(BadField::new("build.state_format_write", why));
    }
    if !build.client_versions.is_empty() {
        semver::VersionReq::parse(&build.client_versions)
            .map_err(|e| BadField::new("build.client_versions", format!("is not a semver requirement: {e}")))?;
    }
    let info = BuildInfo {
        version,
        assets_digest: None,
        state_formats_read: build.state_formats_read,
        state_format_write: build.state_format_write,
        schema_versions: build.schema_versions,
        client_versions: build.client_versions,
    };
    Ok(Build { info, command: build.command, environment: build.environment, assets_path: build.assets_path, created })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_fields_are_named() {
        let good = v1::Build {
            version: "1.9.0".into(),
            command: vec!["true".into()],
            state_formats_read: vec![1],
            state_format_write: 1,
            ..v1::Build::default()
        };
        assert!(super::build(good.clone(), Timestamp(1)).is_ok());
        for (bad, field) in [
            (v1::Build { version: "one".into(), ..good.clone() }, "build.version"),
            (v1::Build { command: vec![], ..good.clone() }, "build.command"),
            (v1::Build { command: vec!["/no/such/file".into()], ..good.clone() }, "build.command"),
            (v1::Build { environment: [("A=B".into(), String::new())].into(), ..good.clone() }, "build.environment"),
            (v1::Build { state_formats_read: vec![], ..good.clone() }, "build.state_formats_read"),
            (v1::Build { state_format_write: 2, ..good.clone() }, "build.state_format_write"),
            (v1::Build { client_versions: "newest".into(), ..good }, "build.client_versions"),
        ] {
            assert_eq!(super::build(bad, Timestamp(1)).unwrap_err().field, field);
        }
    }
}
