//! Asset bundles by content: `data_dir/assets/<digest>/` holds a copy that no later change of the source can reach. The
//! digest is computed on the copy, by the function that world servers use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tidegate_world::assets::digest_folder;
use uuid::Uuid;

/// Deepest nesting of folders in a bundle; more is a loop or a mistake.
const MAX_DEPTH: usize = 32;

/// A bundle that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingested {
    /// Its BLAKE3 digest.
    pub digest: [u8; 32],
    /// Where it is.
    pub path: PathBuf,
    /// How many files it has.
    pub files: u64,
    /// Their length together, in bytes.
    pub bytes: u64,
}

/// A folder that cannot be taken in.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct AssetsError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Where the bundle with this digest is, or would be.
#[must_use]
pub fn path_of(data_dir: &Path, digest: &[u8; 32]) -> PathBuf {
    data_dir.join("assets").join(blake3::Hash::from(*digest).to_hex().as_str())
}

/// Copies a folder into the store, unless its content is there already. After a crash the bundle is there whole or not at
/// all. Blocks for as long as copying takes.
///
/// # Errors
/// [`AssetsError`]: not a folder, a file cannot be read or written, or it holds something that is neither file nor folder.
pub fn ingest(data_dir: &Path, source: &Path) -> Result<Ingested, AssetsError> {
    let store = std::path::absolute(data_dir).map_err(at(data_dir))?.join("assets");
    fs::create_dir_all(&store).map_err(at(&store))?;
    let incoming = store.join(format!(".incoming-{}", Uuid::new_v4()));
    let taken = take_in(&store, &incoming, source);
    if incoming.exists() {
        // Left over only where it failed or was there already; nobody else knows the name.
        fs::remove_dir_all(&incoming).map_err(at(&incoming))?;
    }
    taken
}

fn take_in(store: &Path, incoming: &Path, source: &Path) -> Result<Ingested, AssetsError> {
    let (mut files, mut bytes) = (0, 0);
    copy(source, incoming, 0, &mut files, &mut bytes)?;
    let digest = digest_folder(incoming).map_err(at(incoming))?;
    let path = store.join(blake3::Hash::from(digest).to_hex().as_str());
    let ingested = Ingested { digest, path: path.clone(), files, bytes };
    if path.exists() {
        if digest_folder(&path).is_ok_and(|there| there == digest) {
            return Ok(ingested);
        }
        // What is there is not what its name says: somebody changed it. The good copy takes its place.
        let aside = store.join(format!(".damaged-{}", Uuid::new_v4()));
        tracing::warn!(path = %path.display(), aside = %aside.display(), "asset bundle was changed in the store");
        fs::rename(&path, &aside).map_err(at(&path))?;
    }
    fs::rename(incoming, &path).map_err(at(&path))?;
    sync(store)?;
    Ok(ingested)
}

fn copy(from: &Path, to: &Path, depth: usize, files: &mut u64, bytes: &mut u64) -> Result<(), AssetsError> {
    if depth > MAX_DEPTH {
        return Err(at(from)(io::Error::other("is nested too deeply")));
    }
    let entries = fs::read_dir(from).map_err(at(from))?;
    fs::create_dir(to).map_err(at(to))?;
    for entry in entries {
        let entry = entry.map_err(at(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        // Follows links: a bundle is what can be read through it.
        let meta = fs::metadata(&path).map_err(at(&path))?;
        if meta.is_dir() {
            copy(&path, &target, depth + 1, files, bytes)?;
        } else if meta.is_file() {
            *bytes += fs::copy(&path, &target).map_err(at(&path))?;
            *files += 1;
            sync(&target)?;
        } else {
            return Err(at(&path)(io::Error::other("is neither a file nor a folder")));
        }
    }
    sync(to)
}

fn sync(path: &Path) -> Result<(), AssetsError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AssetsError {
    let path = path.to_owned();
    move |source| AssetsError { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> tempfile::TempDir {
        let source = tempfile::tempdir().unwrap();
        fs::create_dir(source.path().join("maps")).unwrap();
        fs::write(source.path().join("maps/town"), b"a town").unwrap();
        fs::write(source.path().join("items"), b"a sword").unwrap();
        source
    }

    fn entries(data: &Path) -> usize {
        fs::read_dir(data.join("assets")).unwrap().count()
    }

    #[test]
    fn the_same_content_is_taken_in_once() {
        let (data, source) = (tempfile::tempdir().unwrap(), bundle());
        let first = ingest(data.path(), source.path()).unwrap();
        assert_eq!((first.files, first.bytes), (2, 13));
        assert_eq!(first.path, path_of(data.path(), &first.digest));
        assert_eq!(digest_folder(source.path()).unwrap(), first.digest);
        assert_eq!(ingest(data.path(), source.path()).unwrap(), first);
        assert_eq!(entries(data.path()), 1);
        fs::write(source.path().join("items"), b"an axe").unwrap();
        assert_ne!(ingest(data.path(), source.path()).unwrap().digest, first.digest);
        assert_eq!(digest_folder(&first.path).unwrap(), first.digest, "the copy does not follow its source");
    }

    #[test]
    fn a_changed_copy_is_replaced() {
        let (data, source) = (tempfile::tempdir().unwrap(), bundle());
        let first = ingest(data.path(), source.path()).unwrap();
        fs::write(first.path.join("items"), b"a cheat").unwrap();
        ingest(data.path(), source.path()).unwrap();
        assert_eq!(digest_folder(&first.path).unwrap(), first.digest);
    }

    #[test]
    fn what_is_not_a_folder_leaves_nothing_behind() {
        let data = tempfile::tempdir().unwrap();
        let error = ingest(data.path(), Path::new("/nonexistent/assets")).unwrap_err();
        assert_eq!(error.to_string(), "/nonexistent/assets");
        assert_eq!(entries(data.path()), 0);
    }
}
