//! Asset bundles are folders, addressed by the digest of their content. The manager and every world server compute it with
//! the same function, so that a server that read other files than it was told cannot stay unnoticed.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Deepest nesting of folders in a bundle; more is a loop or a mistake.
const MAX_DEPTH: usize = 32;
/// Most files in a bundle.
const MAX_FILES: usize = 1_000_000;

/// A folder of assets whose digest was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The folder.
    pub path: PathBuf,
    /// Its digest, as [`digest_folder`] computes it.
    pub digest: [u8; 32],
}

/// BLAKE3 over the files below `path`, sorted by their relative path (with `/`): for each the path's length, the path, the
/// content's length (both as 8 bytes, little endian) and the content. Empty folders do not count; links are followed.
///
/// # Errors
/// A file cannot be read, a name is not UTF-8, or the folder is deeper or fuller than any bundle may be.
pub fn digest_folder(path: &Path) -> io::Result<[u8; 32]> {
    let mut files = Vec::new();
    collect(path, "", 0, &mut files)?;
    files.sort();
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    for name in files {
        let mut file = fs::File::open(path.join(&name))?;
        let length = file.metadata()?.len();
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(&length.to_le_bytes());
        let mut read = 0;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            read += n as u64;
            hasher.update(&buffer[..n]);
        }
        if read != length {
            return Err(io::Error::other(format!("{name} changed while it was read")));
        }
    }
    Ok(*hasher.finalize().as_bytes())
}

fn collect(root: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("{prefix} is nested too deeply")));
    }
    for entry in fs::read_dir(root.join(prefix))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| io::Error::other(format!("{name:?} is not UTF-8")))?;
        let relative = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        if fs::metadata(entry.path())?.is_dir() {
            collect(root, &relative, depth + 1, files)?;
        } else if files.len() < MAX_FILES {
            files.push(relative);
        } else {
            return Err(io::Error::other("too many files"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn digest(files: &[(&str, &str)]) -> [u8; 32] {
        digest_folder(folder(files).path()).unwrap()
    }

    #[test]
    fn the_same_content_has_the_same_digest_wherever_it_lies() {
        let files = [("a.txt", "1"), ("maps/town.bin", "2"), ("maps/a/b.bin", "")];
        let mut reversed = files;
        reversed.reverse();
        assert_eq!(digest(&files), digest(&reversed));
    }

    #[test]
    fn every_difference_shows() {
        let base = digest(&[("a", "xy"), ("b", "z")]);
        for other in [&[("a", "x"), ("b", "yz")][..], &[("a", "xy"), ("c", "z")], &[("a", "xy")], &[("ab", "xyz")]] {
            assert_ne!(base, digest(other));
        }
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        assert!(digest_folder(Path::new("/does/not/exist")).is_err());
    }
}
