//! Where documents come from: pinned files, found by what they contain.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use crate::{
    forms,
    lock::{self, Pin},
    samples::SAMPLES,
};

/// How far below the data folder files are looked for.
const MAX_DEPTH: usize = 12;
/// How many files and folders are looked at before the search gives up.
const MAX_ENTRIES: usize = 500_000;
/// The largest unpinned file whose SHA-256 is computed for a message.
const MAX_HASHED_FOR_MESSAGE: u64 = 1 << 30;
/// Of how many files of one name the other spellings are tried.
const MAX_NAMESAKES: usize = 16;
/// Bytes hashed at a time.
const CHUNK: usize = 1 << 16;

/// What stands before the names of samples in messages.
const BUNDLED: &str = "bundled";

const HINT_FOLDER: &str = "name the folder that holds the datasets with `--data DIR`";
const HINT_SAMPLES: &str =
    "the bundled samples do not cover this; give the real datasets with `--data DIR`";
const HINT_UNPINNED: &str = "only files that `datasets.lock` pins can be read";

/// The files of all benchmarks: a folder searched by SHA-256, or the bundled samples.
///
/// A clone shares the files but keeps its own record of what was read.
#[derive(Debug)]
pub struct DataDir {
    files: Arc<Files>,
    read: Mutex<BTreeMap<String, String>>,
}

/// One file, read whole and checked against its pin.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// The name it is pinned under: `boolq/dev.jsonl`.
    pub name: String,
    /// Where it lies, for messages; `bundled:boolq/dev.jsonl` for a sample.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
}

#[derive(Debug)]
enum Files {
    Folder(Folder),
    Memory(Memory),
}

/// Files that are not pinned: the program's own samples, or what a test made up.
#[derive(Debug)]
struct Memory {
    origin: String,
    files: BTreeMap<String, Cow<'static, [u8]>>,
}

/// What the search of a folder found.
#[derive(Debug, Default)]
struct Folder {
    root: PathBuf,
    /// Where each pinned file lies, by SHA-256.
    found: BTreeMap<String, PathBuf>,
    /// Files that are called as a pinned one but are another, by file name.
    namesakes: BTreeMap<String, Vec<PathBuf>>,
    /// Symbolic links and unreadable entries, which were passed over.
    passed_over: Vec<PathBuf>,
}

impl Clone for DataDir {
    fn clone(&self) -> Self {
        Self {
            files: Arc::clone(&self.files),
            read: Mutex::default(),
        }
    }
}

impl DataDir {
    /// Searches `root` (bounded depth and count) for files with a pinned size and SHA-256, whatever their names.
    /// Symbolic links below `root` are not followed.
    ///
    /// # Errors
    /// When `root` cannot be read or holds too much.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let folder = Folder::search(root, lock::pins()?)?;
        Ok(Self {
            files: Arc::new(Files::Folder(folder)),
            read: Mutex::default(),
        })
    }

    /// The dozen documents per benchmark that are part of this program.
    pub fn bundled() -> Self {
        let samples = SAMPLES
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), Cow::Borrowed(*bytes)));
        Self::of(BUNDLED, samples.collect())
    }

    /// Files given by name and content, whatever the lock says; `origin` stands before their names in messages.
    pub fn from_memory(origin: &str, files: BTreeMap<String, Vec<u8>>) -> Self {
        let files = files
            .into_iter()
            .map(|(name, bytes)| (name, Cow::Owned(bytes)));
        Self::of(origin, files.collect())
    }

    fn of(origin: &str, files: BTreeMap<String, Cow<'static, [u8]>>) -> Self {
        let origin = origin.to_owned();
        Self {
            files: Arc::new(Files::Memory(Memory { origin, files })),
            read: Mutex::default(),
        }
    }

    /// Are these the bundled samples, whose documents stand for no split?
    pub fn is_bundled(&self) -> bool {
        matches!(&*self.files, Files::Memory(memory) if memory.origin == BUNDLED)
    }

    /// The file pinned in `datasets.lock` under `name` (`boolq/dev.jsonl`). Where a file of the same name differs
    /// from the pinned one in line ends or in a table's quoting alone, its bytes are given as pinned.
    ///
    /// # Errors
    /// When it is missing or is not what the lock says.
    pub fn read(&self, name: &str) -> Result<DataFile, DataError> {
        let file = match &*self.files {
            Files::Folder(folder) => folder.read(pin(name)?)?,
            Files::Memory(memory) => memory.read(name)?,
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(file.name.clone(), file.sha256.clone());
        Ok(file)
    }

    /// The first of several files with the same documents that is there.
    ///
    /// # Errors
    /// When none is; the message is about the first, the hint names the others.
    pub fn read_first(&self, names: &[&str]) -> Result<DataFile, DataError> {
        if let Some(name) = names.iter().find(|name| self.has(name)) {
            return self.read(name);
        }
        let Some((first, others)) = names.split_first() else {
            return Err(error(Path::new(""), "no file is asked for", HINT_UNPINNED));
        };
        let mut error = match self.read(first) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        for other in others {
            let known = lock::pins()?.iter().find(|pin| pin.name == *other);
            let address = known
                .map(|pin| format!(", {} bytes, from {}", pin.bytes, pin.source))
                .unwrap_or_default();
            let _ = write!(error.hint, "; `{other}` serves as well{address}");
        }
        Err(error)
    }

    /// Is the file there? (It may still prove unreadable.)
    pub fn has(&self, name: &str) -> bool {
        match &*self.files {
            Files::Folder(folder) => {
                pin(name).is_ok_and(|pin| folder.found.contains_key(&pin.sha256))
            }
            Files::Memory(memory) => memory.files.contains_key(name),
        }
    }

    /// The names below a folder such as `race/test/high/`, in numeric order where files are called by number:
    /// all pinned ones, or of the bundled samples those that exist.
    ///
    /// # Errors
    /// When there are none.
    pub fn names_under(&self, prefix: &str) -> Result<Vec<String>, DataError> {
        let (names, hint): (Vec<&str>, _) = match &*self.files {
            Files::Folder(_) => (
                lock::pins()?.iter().map(|pin| pin.name.as_str()).collect(),
                HINT_UNPINNED,
            ),
            Files::Memory(memory) => (
                memory.files.keys().map(String::as_str).collect(),
                HINT_SAMPLES,
            ),
        };
        let mut names: Vec<&str> = names
            .into_iter()
            .filter(|name| name.starts_with(prefix))
            .collect();
        if names.is_empty() {
            return Err(error(Path::new(prefix), "there are no such files", hint));
        }
        names.sort_by_key(|name| (number(name), *name));
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    /// SHA-256 of every file read through this value, by name.
    pub fn files_read(&self) -> BTreeMap<String, String> {
        self.read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Where the file of a name was found, if it was; `None` for samples.
    pub fn path(&self, name: &str) -> Option<&Path> {
        match &*self.files {
            Files::Folder(folder) => folder
                .found
                .get(&pin(name).ok()?.sha256)
                .map(PathBuf::as_path),
            Files::Memory(_) => None,
        }
    }
}

impl Folder {
    fn search(root: &Path, pins: &[Pin]) -> Result<Self, DataError> {
        let unreadable = |cause: io::Error| {
            error(
                root,
                &format!("cannot read the data folder: {cause}"),
                HINT_FOLDER,
            )
        };
        let root = root.canonicalize().map_err(unreadable)?;
        let sizes: BTreeSet<u64> = pins.iter().map(|pin| pin.bytes).collect();
        let hashes: BTreeSet<&str> = pins.iter().map(|pin| pin.sha256.as_str()).collect();
        let names: BTreeSet<&str> = pins.iter().map(|pin| file_name(&pin.name)).collect();
        fs::read_dir(&root).map_err(unreadable)?;

        let mut folder = Self {
            root: root.clone(),
            ..Self::default()
        };
        let mut waiting = vec![(root.clone(), 0)];
        let mut entries = 0;
        while let Some((path, depth)) = waiting.pop() {
            for (path, metadata) in folder.list(&path) {
                entries += 1;
                if entries > MAX_ENTRIES {
                    let problem =
                        format!("the data folder holds more than {MAX_ENTRIES} files and folders");
                    return Err(error(&root, &problem, HINT_FOLDER));
                }
                if metadata.is_dir() && depth < MAX_DEPTH {
                    waiting.push((path, depth + 1));
                } else if metadata.is_file() {
                    let hash = if sizes.contains(&metadata.len()) {
                        folder.hash(&path)
                    } else {
                        None
                    };
                    match hash.filter(|hash| hashes.contains(hash.as_str())) {
                        Some(hash) => {
                            folder.found.entry(hash).or_insert(path);
                        }
                        None => {
                            let name = path
                                .file_name()
                                .unwrap_or_default()
                                .to_string_lossy()
                                .into_owned();
                            if names.contains(name.as_str()) {
                                folder.namesakes.entry(name).or_default().push(path);
                            }
                        }
                    }
                } else if !metadata.is_dir() {
                    folder.passed_over.push(path);
                }
            }
        }
        folder.recognise_other_forms(pins);
        Ok(folder)
    }

    /// Finds what was not found among the files of the same name, in case only its spelling differs.
    fn recognise_other_forms(&mut self, pins: &[Pin]) {
        for pin in pins
            .iter()
            .filter(|pin| !self.found.contains_key(&pin.sha256))
            .collect::<Vec<_>>()
        {
            let Some(namesakes) = self.namesakes.get_mut(file_name(&pin.name)) else {
                continue;
            };
            let is_pinned = |path: &PathBuf| {
                let bytes = read_at_most(path, forms::most_bytes(pin)).ok();
                bytes.and_then(|bytes| forms::pinned(bytes, pin)).is_some()
            };
            if let Some(index) = namesakes.iter().take(MAX_NAMESAKES).position(is_pinned) {
                self.found
                    .insert(pin.sha256.clone(), namesakes.remove(index));
            }
        }
    }

    /// The entries of a folder, sorted so that every run finds the same of two equal files.
    fn list(&mut self, path: &Path) -> Vec<(PathBuf, fs::Metadata)> {
        let Ok(entries) = fs::read_dir(path) else {
            self.passed_over.push(path.to_owned());
            return Vec::new();
        };
        let mut list: Vec<(PathBuf, fs::Metadata)> = Vec::new();
        for entry in entries {
            // `DirEntry::metadata` does not follow symbolic links.
            match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
                Ok(entry) => list.push(entry),
                Err(_) => self.passed_over.push(path.to_owned()),
            }
        }
        list.sort_by(|left, right| left.0.cmp(&right.0));
        list
    }

    fn hash(&mut self, path: &Path) -> Option<String> {
        let hash = hash_file(path).ok();
        if hash.is_none() {
            self.passed_over.push(path.to_owned());
        }
        hash
    }

    fn read(&self, pin: &Pin) -> Result<DataFile, DataError> {
        let Some(path) = self.found.get(&pin.sha256) else {
            return Err(self.missing(pin));
        };
        let bytes = read_at_most(path, forms::most_bytes(pin)).map_err(|cause| {
            error(
                path,
                &format!("cannot be read: {cause}"),
                "make the file readable",
            )
        })?;
        // The bytes that are used are hashed, not those of the search.
        let Some(bytes) = forms::pinned(bytes, pin) else {
            let problem = format!(
                "the file changed since the data folder was searched: it is no longer `{}`, {} bytes with sha256 {}",
                pin.name, pin.bytes, pin.sha256
            );
            return Err(error(
                path,
                &problem,
                "start again, and leave the data folder alone meanwhile",
            ));
        };
        let sha256 = pin.sha256.clone();
        Ok(DataFile {
            name: pin.name.clone(),
            path: path.clone(),
            bytes,
            sha256,
        })
    }

    /// Says what was looked for, and what lies in its place.
    fn missing(&self, pin: &Pin) -> DataError {
        let mut problem = format!(
            "`{}` is missing: no file below {} has {} bytes and sha256 {}",
            pin.name,
            self.root.display(),
            pin.bytes,
            pin.sha256
        );
        let dataset = pin.name.split('/').next().unwrap_or_default();
        let namesakes = self
            .namesakes
            .get(file_name(&pin.name))
            .map(Vec::as_slice)
            .unwrap_or_default();
        // Several datasets have a `dev.jsonl`: the one in a folder of the dataset's name is meant.
        let own = namesakes
            .iter()
            .find(|path| path.iter().any(|part| part == dataset));
        let wrong = own.or(namesakes.first().filter(|_| namesakes.len() == 1));
        if let Some(path) = wrong {
            let bytes = fs::metadata(path)
                .map(|metadata| metadata.len())
                .unwrap_or_default();
            let _ = write!(
                problem,
                "; {} is the wrong file: it has {bytes} bytes",
                path.display()
            );
            if let Some(sha256) = Some(path)
                .filter(|_| bytes <= MAX_HASHED_FOR_MESSAGE)
                .and_then(|path| hash_file(path).ok())
            {
                let _ = write!(problem, " and sha256 {sha256}");
            }
            if bytes < pin.bytes {
                problem.push_str(" (cut short?)");
            }
        }
        let mut hint = format!(
            "get it from {}; any name and place below the data folder will do",
            pin.source
        );
        if let Some(first) = self.passed_over.first() {
            let _ = write!(
                hint,
                "; {} links or unreadable entries were passed over, the first is {}",
                self.passed_over.len(),
                first.display()
            );
        }
        error(wrong.unwrap_or(&self.root.join(&pin.name)), &problem, &hint)
    }
}

impl Memory {
    fn read(&self, name: &str) -> Result<DataFile, DataError> {
        let path = PathBuf::from(format!("{}:{name}", self.origin));
        let Some(bytes) = self.files.get(name) else {
            return Err(error(&path, "there is no such sample", HINT_SAMPLES));
        };
        Ok(DataFile {
            name: name.to_owned(),
            path,
            bytes: bytes.to_vec(),
            sha256: hex(&Sha256::digest(bytes)),
        })
    }
}

fn pin(name: &str) -> Result<&'static Pin, DataError> {
    lock::pin(name)?.ok_or_else(|| {
        error(
            Path::new(name),
            "there is no such file in `datasets.lock`",
            HINT_UNPINNED,
        )
    })
}

/// What a file called `12.txt` sorts by; files not called by number come after, by name.
fn number(name: &str) -> u64 {
    let stem = file_name(name).split('.').next().unwrap_or_default();
    stem.parse().unwrap_or(u64::MAX)
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn read_at_most(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    File::open(path)?
        .take(bytes.saturating_add(1))
        .read_to_end(&mut read)?;
    Ok(read)
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = file.read(&mut chunk)?;
        if length == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(chunk.get(..length).unwrap_or_default());
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn error(path: &Path, problem: &str, hint: &str) -> DataError {
    DataError {
        path: path.to_owned(),
        line: None,
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    }
}

/// A file that is missing, wrong or malformed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{}: {problem}\nhint: {hint}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct DataError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do next.
    pub hint: String,
}
