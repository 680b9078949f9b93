//! Blobs by content in an object store: `blobs/<digest>`. Written before anything names them; never changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::SnapshotError;
use super::manifest::BlobRef;

/// Piece in which files are read, in bytes; at most [`UPLOADS`] of the store's parts (5 MiB) are in memory at once.
const PIECE: usize = 1024 * 1024;
/// Parts under way to the store at once.
const UPLOADS: usize = 2;

/// The blobs of a store.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    store: Arc<dyn ObjectStore>,
}

pub(crate) fn io_at(path: &Path) -> impl FnOnce(std::io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, source }
}

/// Where the content of a blob goes while it is read.
enum Target<'a> {
    /// Only its digest matters.
    Nowhere,
    /// Into memory. What is longer than announced fails its digest; it need not be kept.
    Memory(&'a mut Vec<u8>, usize),
    /// Into a file (its path is for errors).
    File(&'a mut tokio::fs::File, &'a Path),
}

impl Target<'_> {
    async fn take(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Memory(content, limit) => {
                if content.len() <= *limit {
                    content.extend_from_slice(piece);
                }
                Ok(())
            }
            Self::File(file, path) => file.write_all(piece).await.map_err(io_at(path)),
        }
    }
}

impl Blobs {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    fn key(digest: &str) -> Key {
        Key::from("blobs").join(digest)
    }

    /// Stores a small blob.
    pub(crate) async fn put(&self, content: Bytes) -> Result<BlobRef, SnapshotError> {
        let digest = blake3::hash(&content).to_hex().to_string();
        let blob = BlobRef { digest, bytes: content.len() as u64 };
        if self.check(&blob).await.is_err() {
            self.store.put(&Self::key(&blob.digest), content.into()).await?;
        }
        Ok(blob)
    }

    /// Stores a file, whatever its length.
    pub(crate) async fn put_file(&self, path: &Path) -> Result<BlobRef, SnapshotError> {
        let blob = self.digest_of(path).await?;
        if self.check(&blob).await.is_ok() {
            return Ok(blob);
        }
        let mut file = tokio::fs::File::open(path).await.map_err(io_at(path))?;
        let upload = self.store.put_multipart(&Self::key(&blob.digest)).await?;
        let mut upload = WriteMultipart::new(upload);
        let mut piece = vec![0; PIECE];
        loop {
            let length = file.read(&mut piece).await.map_err(io_at(path))?;
            if length == 0 {
                break;
            }
            upload.wait_for_capacity(UPLOADS).await?;
            upload.write(&piece[..length]);
        }
        upload.finish().await?;
        Ok(blob)
    }

    async fn digest_of(&self, path: &Path) -> Result<BlobRef, SnapshotError> {
        let mut file = tokio::fs::File::open(path).await.map_err(io_at(path))?;
        let (mut hasher, mut bytes, mut piece) = (blake3::Hasher::new(), 0, vec![0; PIECE]);
        loop {
            let length = file.read(&mut piece).await.map_err(io_at(path))?;
            if length == 0 {
                return Ok(BlobRef { digest: hasher.finalize().to_hex().to_string(), bytes });
            }
            hasher.update(&piece[..length]);
            bytes += length as u64;
        }
    }

    /// Reads a blob back and compares its digest.
    pub(crate) async fn check(&self, blob: &BlobRef) -> Result<(), SnapshotError> {
        self.read(blob, Target::Nowhere).await
    }

    /// Reads a small blob whole, and compares its digest.
    pub(crate) async fn get(&self, blob: &BlobRef, limit: usize) -> Result<Bytes, SnapshotError> {
        if blob.bytes > limit as u64 {
            return Err(SnapshotError::DamagedBlob {
                expected: blob.digest.clone(),
                found: format!("{} bytes long", blob.bytes),
            });
        }
        let mut content = Vec::new();
        self.read(blob, Target::Memory(&mut content, limit)).await?;
        Ok(content.into())
    }

    /// Writes a blob to a new file, durably, and compares its digest.
    pub(crate) async fn get_file(&self, blob: &BlobRef, path: &Path) -> Result<(), SnapshotError> {
        let mut file = tokio::fs::File::create(path).await.map_err(io_at(path))?;
        self.read(blob, Target::File(&mut file, path)).await?;
        file.sync_all().await.map_err(io_at(path))
    }

    async fn read(&self, blob: &BlobRef, mut target: Target<'_>) -> Result<(), SnapshotError> {
        let found = match self.store.get(&Self::key(&blob.digest)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(SnapshotError::MissingBlob(blob.digest.clone())),
            Err(e) => return Err(e.into()),
        };
        let (mut hasher, mut content) = (blake3::Hasher::new(), found.into_stream());
        while let Some(bytes) = content.next().await {
            let bytes = bytes?;
            hasher.update(&bytes);
            target.take(&bytes).await?;
        }
        let digest = hasher.finalize().to_hex();
        if *digest.as_str() == *blob.digest {
            Ok(())
        } else {
            Err(SnapshotError::DamagedBlob { expected: blob.digest.clone(), found: digest.to_string() })
        }
    }

    /// Deletes every blob that is not in `keep`. Returns how many.
    pub(crate) async fn sweep(&self, keep: &std::collections::BTreeSet<String>) -> Result<u32, SnapshotError> {
        let mut listed = self.store.list(Some(&Key::from("blobs")));
        let mut unused = Vec::new();
        while let Some(meta) = listed.next().await {
            let key = meta?.location;
            if key.filename().is_some_and(|name| !keep.contains(name)) {
                unused.push(key);
            }
        }
        drop(listed);
        let mut deleted = 0;
        for key in unused {
            match self.store.delete(&key).await {
                Ok(()) => deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(deleted)
    }
}

/// A file that is removed when it is no longer needed.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "scratch file could not be removed");
        }
    }
}
