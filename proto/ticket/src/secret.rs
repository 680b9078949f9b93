//! A secret of one process, kept in its own folder: nobody else needs it.

use std::path::Path;

use pasetors::keys::{Generate as _, SymmetricKey};
use pasetors::version4::V4;

use crate::KeyError;
use crate::key_file::{self, Secrecy};

const KIND: &str = "tidegate-local-secret";

/// 32 random bytes that stand in the file `path`, which is made if it is not there.
///
/// # Errors
/// [`KeyError`] names the file and what is wrong with it; one that others can read is refused.
pub fn local_secret(path: &Path) -> Result<[u8; 32], KeyError> {
    if !path.exists() {
        let fresh = SymmetricKey::<V4>::generate().map_err(|_| KeyError::Generate)?;
        key_file::write_if_absent(path, &(key_file::line(KIND, fresh.as_bytes()) + "\n"), Secrecy::Secret)?;
    }
    let bytes = key_file::read(path, KIND, 32, Secrecy::Secret)?;
    bytes.try_into().map_err(|_| KeyError::malformed(path, "not a secret of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/secret");
        let first = local_secret(&path).unwrap();
        assert_eq!(local_secret(&path).unwrap(), first);
        assert_ne!(local_secret(&dir.path().join("other")).unwrap(), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(local_secret(&path), Err(KeyError::Malformed { .. })));
        }
    }
}
