//! `datasets.lock`: which files are read, known by size and SHA-256, and where their authors publish them.

use std::{collections::HashMap, fmt, sync::LazyLock};

use serde::Deserialize;

use crate::dataset::DataError;

/// The lock file, part of the program.
const LOCK: &str = include_str!("../../datasets.lock");
const LOCK_NAME: &str = "datasets.lock";
const HINT_BUILD: &str =
    "the lock file is part of the program: report this as a fault of the build";

/// What one data file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// What the program calls it: `boolq/dev.jsonl`.
    pub name: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Lines, or documents where a document spans lines.
    pub rows: usize,
    /// Licence of the dataset; `not stated` where its authors state none.
    pub licence: String,
    /// Where its authors publish it.
    pub source: Source,
}

/// Where a file can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// As such.
    Url(String),
    /// Within an archive.
    Member {
        /// The archive.
        archive: Archive,
        /// The path in it.
        member: String,
    },
}

/// A published archive of several files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its file name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => formatter.write_str(url),
            Self::Member { archive, member } => {
                write!(formatter, "{} (member {member})", archive.url)
            }
        }
    }
}

/// All pinned files: single ones as the lock file lists them, then folders, each in numeric or alphabetic order.
///
/// # Errors
/// When the lock file is malformed, which the tests exclude.
pub fn pins() -> Result<&'static [Pin], DataError> {
    static PINS: LazyLock<Result<Vec<Pin>, DataError>> = LazyLock::new(|| parse(LOCK));
    PINS.as_deref().map_err(Clone::clone)
}

/// The pin of a file.
pub(crate) fn pin(name: &str) -> Result<Option<&'static Pin>, DataError> {
    static NAMES: LazyLock<HashMap<&str, &Pin>> = LazyLock::new(|| {
        let pins = pins().unwrap_or_default().iter();
        pins.map(|pin| (pin.name.as_str(), pin)).collect()
    });
    pins()?;
    Ok(NAMES.get(name).copied())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    version: u32,
    archive: Vec<Archive>,
    file: Vec<File>,
    folder: Vec<Folder>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    sha256: String,
    bytes: u64,
    rows: usize,
    licence: String,
    url: Option<String>,
    archive: Option<String>,
    member: Option<String>,
}

/// Many files of one archive, or below one address; `files` holds sha256, bytes, rows and name of one a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    name: String,
    licence: String,
    url: Option<String>,
    archive: Option<String>,
    member: Option<String>,
    rows: usize,
    bytes: u64,
    files: String,
}

fn parse(text: &str) -> Result<Vec<Pin>, DataError> {
    let lock: LockFile = toml::from_str(text).map_err(|error| fault(error.message()))?;
    if lock.version != 1 {
        return Err(fault(&format!("version {} is unknown", lock.version)));
    }
    let archive = |name: &str| {
        let found = lock.archive.iter().find(|archive| archive.name == name);
        found
            .cloned()
            .ok_or_else(|| fault(&format!("there is no archive `{name}`")))
    };
    let source = |of: &str, url, name: Option<String>, member| match (url, name, member) {
        (Some(url), None, None) => Ok(Source::Url(url)),
        (None, Some(name), Some(member)) => Ok(Source::Member {
            archive: archive(&name)?,
            member,
        }),
        _ => Err(fault(&format!(
            "`{of}` needs either url or archive and member"
        ))),
    };
    let mut pins = Vec::new();
    for file in lock.file {
        let source = source(&file.name, file.url, file.archive, file.member)?;
        let File {
            name,
            sha256,
            bytes,
            rows,
            licence,
            ..
        } = file;
        pins.push(Pin {
            name,
            sha256,
            bytes,
            rows,
            licence,
            source,
        });
    }
    for folder in lock.folder {
        let root = source(
            &folder.name,
            folder.url.clone(),
            folder.archive.clone(),
            folder.member.clone(),
        )?;
        let members = folder
            .files
            .lines()
            .map(|line| pinned_in(&folder, &root, line));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let rows: usize = members.iter().map(|pin| pin.rows).sum();
        let bytes: u64 = members.iter().map(|pin| pin.bytes).sum();
        if (rows, bytes) != (folder.rows, folder.bytes) {
            return Err(fault(&format!(
                "the files of `{}` have {rows} rows and {bytes} bytes",
                folder.name
            )));
        }
        pins.extend(members);
    }
    match pins
        .iter()
        .find(|pin| pin.sha256.len() != 64 || pin.bytes == 0 || pin.rows == 0)
    {
        Some(pin) => Err(fault(&format!("`{}` is not pinned", pin.name))),
        None => Ok(pins),
    }
}

fn pinned_in(folder: &Folder, root: &Source, line: &str) -> Result<Pin, DataError> {
    let malformed = || fault(&format!("malformed line in `{}`: {line}", folder.name));
    let parts: Vec<&str> = line.split(' ').collect();
    let &[sha256, bytes, rows, file] = parts.as_slice() else {
        return Err(malformed());
    };
    Ok(Pin {
        name: format!("{}/{file}", folder.name),
        sha256: sha256.to_owned(),
        bytes: bytes.parse().map_err(|_| malformed())?,
        rows: rows.parse().map_err(|_| malformed())?,
        licence: folder.licence.clone(),
        source: match root {
            Source::Url(url) => Source::Url(format!("{url}/{file}")),
            Source::Member { archive, member } => Source::Member {
                archive: archive.clone(),
                member: format!("{member}/{file}"),
            },
        },
    })
}

fn fault(problem: &str) -> DataError {
    DataError {
        path: LOCK_NAME.into(),
        line: None,
        problem: problem.to_owned(),
        hint: HINT_BUILD.to_owned(),
    }
}
