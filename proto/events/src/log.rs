//! A file of events, appended to by one process at a time or by many.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_types::{Clock as _, SystemClock};

use crate::line::Line;

/// A process that has written so many bytes has run wild; it stops before it fills the disk.
const LARGEST_BYTES: u64 = 1024 * 1024 * 1024;

/// Where one process writes what it saw. Shared freely: a line is one `write`, and appending is the file system's affair.
#[derive(Debug)]
pub struct Log {
    file: File,
    process: String,
    written_bytes: AtomicU64,
    lost: AtomicU64,
}

impl Log {
    /// Opens the log of `process`: `place` itself, or `<process>.<pid>.jsonl` in it if it is a folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(place: &Path, process: &str) -> io::Result<Self> {
        let path = if place.is_dir() {
            place.join(format!("{}.{}.jsonl", process.replace(['/', '\\'], "_"), std::process::id()))
        } else {
            place.to_owned()
        };
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        if ends_torn(&mut file)? {
            file.write_all(b"\n")?;
        }
        Ok(Self { file, process: process.to_owned(), written_bytes: AtomicU64::new(0), lost: AtomicU64::new(0) })
    }

    /// Begins a line of this time.
    #[must_use]
    pub fn line(&self, event: &str) -> Line {
        Line::new(SystemClock.now().mono, &self.process, event)
    }

    /// Writes it. A line that the file system refuses is lost and counted.
    pub fn write(&self, line: Line) {
        let text = line.finish();
        let before = self.written_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        let written = before < LARGEST_BYTES && (&self.file).write_all(text.as_bytes()).is_ok();
        if !written {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// True if a process died in the middle of the last line.
fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read;

    #[test]
    fn a_folder_gets_a_file_for_each_process() {
        let folder = tempfile::tempdir().unwrap();
        for process in ["gw/1", "w-1"] {
            let log = Log::open(folder.path(), process).unwrap();
            log.write(log.line("started"));
            log.write(log.line("stopped"));
        }
        let (records, torn) = read::read_folder(folder.path()).unwrap();
        let told: Vec<_> = records.iter().map(|r| (r.process.as_str(), r.event.as_str())).collect();
        assert_eq!(torn, 0);
        assert_eq!(told, [("gw/1", "started"), ("gw/1", "stopped"), ("w-1", "started"), ("w-1", "stopped")]);
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("all.jsonl");
        let log = Log::open(&place, "a").unwrap();
        log.write(log.line("one"));
        std::fs::OpenOptions::new().append(true).open(&place).unwrap().write_all(b"{\"at_us\":12,\"pro").unwrap();
        let log = Log::open(&place, "b").unwrap();
        log.write(log.line("two"));
        let (records, torn) = read::read(&std::fs::read_to_string(&place).unwrap());
        assert_eq!((records.len(), torn), (2, 1));
        assert_eq!(records[1].event, "two");
    }

    #[test]
    fn threads_do_not_mix_their_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(folder.path(), "p").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let mut line = log.line("n");
                        line.field("thread", &thread);
                        log.write(line);
                    }
                });
            }
        });
        let (records, torn) = read::read_folder(folder.path()).unwrap();
        assert_eq!((records.len(), torn, log.lost()), (800, 0, 0));
    }
}
