//! The files of the output: under which names, never half written, never on top of the source.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Seek};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::open_file;
use crate::open::Checkpoint;
use crate::validate::EXTRACTED;

/// What every name of ours ends with.
const END: &str = ".safetensors";
/// The end of the names of files that are not finished.
const PART: &str = ".pycandle-part";

/// Bytes of a file in which its metadata say that it was extracted.
const MARKED: u64 = 1 << 16;

/// A place for one file `<stem>.safetensors`, or for its shards and their index.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    stem: String,
    /// Who may read the files: nobody who may not read all of the source.
    #[cfg(unix)]
    mode: u32,
}

impl Place {
    /// The place at `out`, or everything that keeps it from being written to.
    pub fn new(out: &Path, checkpoint: &Checkpoint, force: bool) -> Result<Self, Vec<String>> {
        let name = out.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(|name| name.strip_suffix(END));
        let Some(stem) = stem.filter(|stem| !stem.is_empty() && !out.is_dir()) else {
            let text =
                "the output has to be named `<something>.safetensors`, in a folder that exists";
            return Err(vec![text.into()]);
        };
        let place = Self {
            folder: out.parent().unwrap_or(Path::new("")).to_path_buf(),
            stem: stem.to_owned(),
            #[cfg(unix)]
            mode: mode(checkpoint),
        };
        let family = place.family().map_err(|error| {
            vec![format!(
                "cannot write to the folder {}: {error}",
                place.folder().display()
            )]
        })?;
        let mut problems = Vec::new();
        if let Some(problem) = place.inside(checkpoint) {
            problems.push(problem);
        }
        for name in &family {
            let path = place.folder.join(name);
            if checkpoint.files().any(|source| is_same(source, &path)) {
                problems.push(format!(
                    "`{name}` is the source itself: write somewhere else"
                ));
            } else if !force {
                problems.push(exists(name));
            } else if *name != place.single() && !place.is_written(name, &family) {
                problems.push(format!(
                    "`{name}` would be removed with an earlier output, and was not written by `extract`: \
                     choose another name"
                ));
            }
        }
        match problems.is_empty() {
            true => Ok(place),
            false => Err(problems),
        }
    }

    /// Whether a file of this name is of an earlier run; of an index, one of the shards says so.
    fn is_written(&self, name: &str, family: &[String]) -> bool {
        let mark = format!("\"{EXTRACTED}\":");
        let is_marked = |name: &String| {
            // A whole header may be large, and its metadata come first.
            let mut start = Vec::new();
            let file = open_file(&self.join(name));
            let read = file.and_then(|file| file.take(MARKED).read_to_end(&mut start));
            let mut places = start.windows(mark.len());
            read.is_ok() && places.any(|bytes| bytes == mark.as_bytes())
        };
        match name == self.index() {
            true => family.iter().filter(|other| *other != name).any(is_marked),
            false => is_marked(&name.to_owned()),
        }
    }

    /// The name of one file that is not a shard.
    fn single(&self) -> String {
        format!("{}{END}", self.stem)
    }

    /// The names of this many files.
    pub fn names(&self, count: usize) -> Vec<String> {
        match count {
            0 | 1 => vec![self.single()],
            _ => (1..=count)
                .map(|number| format!("{}-{number:05}-of-{count:05}{END}", self.stem))
                .collect(),
        }
    }

    /// The name of the index of several files.
    pub fn index(&self) -> String {
        format!("{}{END}.index.json", self.stem)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder as the system takes it.
    fn folder(&self) -> &Path {
        or_here(&self.folder)
    }

    /// A source of several files is a folder of its own, in which nothing else is written.
    fn inside(&self, checkpoint: &Checkpoint) -> Option<String> {
        let source = or_here(checkpoint.folder());
        let several = checkpoint.files().nth(1).is_some() || checkpoint.path().is_dir();
        let folder = fs::canonicalize(self.folder()).ok()?;
        let inside = several && folder.ancestors().any(|folder| is_same(source, folder));
        inside.then(|| {
            format!(
                "the output is inside {}, which is the source: write somewhere else",
                checkpoint.shown().display()
            )
        })
    }

    /// Everything in the folder that is the output of an earlier run.
    fn family(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.retain(|name| self.is_ours(name));
        names.sort();
        Ok(names)
    }

    fn is_ours(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&self.stem) else {
            return false;
        };
        if rest == END || name == self.index() {
            return true;
        }
        let numbers = rest
            .strip_suffix(END)
            .and_then(|rest| rest.strip_prefix('-'));
        let numbers = numbers.and_then(|numbers| numbers.split_once("-of-"));
        let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|b| b.is_ascii_digit());
        numbers.is_some_and(|(number, count)| is_number(number) && is_number(count))
    }

    /// Removes what runs left behind that were killed.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.folder()) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let stale = name.starts_with('.') && name.ends_with(PART);
            // A run holds a lock on its files as long as it lives.
            let free = |path: &Path| open_file(path).is_ok_and(|file| file.try_lock().is_ok());
            if stale && free(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A file that will have this name when it is finished.
    pub fn create(&self, name: &str) -> Result<Part> {
        let path = self.join(&format!(".{name}.{}{PART}", std::process::id()));
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, self.mode);
        let file = options
            .open(&path)
            .map_err(|error| Error::io(&path, &error))?;
        let part = Part {
            shown: self.join(name),
            name: name.to_owned(),
            path,
            file,
            finished: false,
        };
        match part.file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(part.io(&io::ErrorKind::ResourceBusy.into())),
            // A file system without locks: then files of killed runs stay.
            _ => Ok(part),
        }
    }

    /// Gives finished files their names, the last of them last.
    ///
    /// At no time does the folder hold a mixture of old and new files that opens as a checkpoint:
    /// one new file replaces the old one in one step; several come after the old ones are gone.
    pub fn publish(&self, mut parts: Vec<Part>, force: bool) -> Result<()> {
        let fail = |name: &str, error: &io::Error| Error::io(&self.join(name), error);
        for part in &parts {
            part.file.sync_all().map_err(|error| part.io(&error))?;
        }
        let mut old = self
            .family()
            .map_err(|error| Error::io(self.folder(), &error))?;
        if let Some(name) = old.first().filter(|_| !force) {
            return Err(Error::file(&self.join(name), vec![exists(name)]));
        }
        // The index first: without it nothing says that old shards belong together.
        old.sort_by_key(|name| *name != self.index());
        let remove = |names: &[String]| {
            let gone = |name: &String| match fs::remove_file(self.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(name, &error)),
                _ => Ok(()),
            };
            names.iter().try_for_each(gone)
        };
        let single = parts.len() == 1;
        if !single && !old.is_empty() {
            remove(&old)?;
            self.sync()?;
        }
        for part in &mut parts {
            fs::rename(&part.path, self.join(&part.name)).map_err(|error| part.io(&error))?;
            part.finished = true;
        }
        if single {
            old.retain(|name| !parts.iter().any(|part| part.name == *name));
            remove(&old)?;
        }
        self.sync()
    }

    /// Makes new names last, where the system does not do so by itself.
    fn sync(&self) -> Result<()> {
        if cfg!(not(unix)) {
            return Ok(());
        }
        let synced = File::open(self.folder()).and_then(|folder| folder.sync_all());
        synced.map_err(|error| Error::io(self.folder(), &error))
    }
}

/// A file that is not finished; dropped as such, it is removed.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it will be, for messages.
    shown: PathBuf,
    name: String,
    path: PathBuf,
    pub file: File,
    finished: bool,
}

impl Part {
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// Writes from the start of the file what `write` gives, and says how many bytes that were.
    pub fn write(
        &mut self,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> Result<u64> {
        let mut to = BufWriter::with_capacity(1 << 16, &self.file);
        let written = write(&mut to).and_then(|()| to.stream_position());
        written.map_err(|error| self.io(&error))
    }

    fn io(&self, error: &io::Error) -> Error {
        Error::io(&self.shown, error)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What all files of a source allow, and that its owner may read and write.
#[cfg(unix)]
fn mode(checkpoint: &Checkpoint) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let metas = checkpoint
        .files()
        .filter_map(|file| fs::metadata(file).ok());
    metas.fold(0o666, |mode, meta| mode & meta.permissions().mode()) | 0o600
}

fn exists(name: &str) -> String {
    format!("`{name}` is there already: choose another name, or replace it with --force")
}

fn or_here(folder: &Path) -> &Path {
    match folder == Path::new("") {
        true => Path::new("."),
        false => folder,
    }
}

/// Whether two paths lead to one file or folder.
fn is_same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (fs::metadata(a), fs::metadata(b)) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}
