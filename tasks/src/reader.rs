//! Reads the formats the datasets come in, and says file, line and field where something is wrong.

use std::{
    io::Read,
    path::{Path, PathBuf},
    str,
};

use csv::{ReaderBuilder, StringRecord};
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::dataset::{DataError, DataFile};

/// Longest line in bytes; the longest of any pinned file has about 12,000.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// Longest file in bytes once a gzip file is unpacked; the only pinned one has 214,438.
pub const MAX_UNPACKED_BYTES: usize = 1 << 26;

/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

const HINT_RESTORE: &str = "the file is damaged or is not the dataset's own; fetch it again";

/// Where a table's column names come from.
#[derive(Clone, Copy, Debug)]
pub enum Header<'a> {
    /// The first line; it must hold at least these.
    First(&'a [&'a str]),
    /// There is no header: the columns, all of them, in order.
    Absent(&'a [&'a str]),
}

/// One row, line or object of a file, with the place it came from.
#[derive(Clone, Debug)]
pub struct Record {
    /// The file.
    pub path: PathBuf,
    /// Its line, from 1, where the format has lines.
    pub line: Option<usize>,
    /// What in that file, where a line cannot say it: `item 3`.
    pub item: Option<String>,
    /// The fields, in their order. Tables hold text alone.
    pub fields: Map<String, Value>,
}

impl Record {
    /// An error at this place.
    pub fn error(&self, problem: impl Into<String>) -> DataError {
        let problem = problem.into();
        DataError {
            path: self.path.clone(),
            line: self.line,
            problem: self
                .item
                .as_ref()
                .map(|item| format!("{item}: {problem}"))
                .unwrap_or(problem),
            hint: HINT_RESTORE.to_owned(),
        }
    }

    /// `boolq/dev.jsonl:17` made of the file's own name: an id for datasets without ids.
    pub fn place(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        match (self.line, &self.item) {
            (Some(line), _) => format!("{file}:{line}"),
            (None, Some(item)) => format!("{file}: {item}"),
            (None, None) => file.into_owned(),
        }
    }

    /// A field of any type.
    ///
    /// # Errors
    /// When it is missing.
    pub fn value(&self, name: &str) -> Result<&Value, DataError> {
        self.fields
            .get(name)
            .ok_or_else(|| self.error(format!("field `{name}` is missing")))
    }

    /// A string.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn text(&self, name: &str) -> Result<&str, DataError> {
        self.value(name)?
            .as_str()
            .ok_or_else(|| self.wrong_type(name, "a string"))
    }

    /// A whole number, or a string that holds one.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn integer(&self, name: &str) -> Result<i64, DataError> {
        let value = self.value(name)?;
        value
            .as_i64()
            .or_else(|| value.as_str()?.trim().parse().ok())
            .ok_or_else(|| self.wrong_type(name, "a whole number"))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn boolean(&self, name: &str) -> Result<bool, DataError> {
        self.value(name)?
            .as_bool()
            .ok_or_else(|| self.wrong_type(name, "true or false"))
    }

    /// A list.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn list(&self, name: &str) -> Result<&[Value], DataError> {
        self.value(name)?
            .as_array()
            .map(Vec::as_slice)
            .ok_or_else(|| self.wrong_type(name, "a list"))
    }

    /// A list of strings.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn texts(&self, name: &str) -> Result<Vec<String>, DataError> {
        let texts = self
            .list(name)?
            .iter()
            .map(|value| value.as_str().map(str::to_owned));
        texts
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong_type(name, "a list of strings"))
    }

    /// An object within this one; its errors name it.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn object(&self, name: &str) -> Result<Record, DataError> {
        let fields = self
            .value(name)?
            .as_object()
            .ok_or_else(|| self.wrong_type(name, "an object"))?;
        Ok(self.inner(name, fields.clone()))
    }

    /// A list of objects within this one; their errors name them.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn objects(&self, name: &str) -> Result<Vec<Record>, DataError> {
        let objects = self.list(name)?.iter().enumerate().map(|(index, value)| {
            let fields = value.as_object()?.clone();
            Some(self.inner(&format!("{name}[{index}]"), fields))
        });
        objects
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong_type(name, "a list of objects"))
    }

    fn inner(&self, name: &str, fields: Map<String, Value>) -> Record {
        let item = match &self.item {
            Some(item) => format!("{item}, {name}"),
            None => name.to_owned(),
        };
        Record {
            path: self.path.clone(),
            line: self.line,
            item: Some(item),
            fields,
        }
    }

    fn wrong_type(&self, name: &str, wanted: &str) -> DataError {
        self.error(format!("field `{name}` is not {wanted}"))
    }
}

/// The file itself, or what a gzip file holds.
///
/// # Errors
/// When the gzip file is damaged or holds more than [`MAX_UNPACKED_BYTES`].
pub fn unpacked(file: DataFile) -> Result<DataFile, DataError> {
    if !file.bytes.starts_with(&GZIP) {
        return Ok(file);
    }
    let mut bytes = Vec::new();
    let most = MAX_UNPACKED_BYTES as u64 + 1;
    let unpacking = MultiGzDecoder::new(file.bytes.as_slice())
        .take(most)
        .read_to_end(&mut bytes);
    if let Err(error) = unpacking {
        let problem = format!("the gzip file cannot be unpacked: {error}");
        return Err(malformed(&file.path, None, &problem));
    }
    if bytes.len() > MAX_UNPACKED_BYTES {
        let problem = format!("the gzip file holds more than {MAX_UNPACKED_BYTES} bytes");
        return Err(malformed(&file.path, None, &problem));
    }
    Ok(DataFile { bytes, ..file })
}

/// The whole text, without a UTF-8 byte order mark.
///
/// # Errors
/// When the file is empty or is not UTF-8.
pub fn text(file: &DataFile) -> Result<&str, DataError> {
    let bytes = file
        .bytes
        .strip_prefix(b"\xEF\xBB\xBF")
        .unwrap_or(&file.bytes);
    let text = str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        malformed(&file.path, Some(line), "not UTF-8 text")
    })?;
    if text.trim().is_empty() {
        return Err(malformed(&file.path, None, "the file is empty"));
    }
    Ok(text)
}

/// The lines with their numbers from 1, without line ends; blank lines at the end of the file are none.
///
/// # Errors
/// As [`text`], and when a line is longer than [`MAX_LINE_BYTES`].
pub fn lines(file: &DataFile) -> Result<Vec<(usize, &str)>, DataError> {
    let text = text(file)?.trim_end_matches(['\n', '\r']);
    let mut lines = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.len() > MAX_LINE_BYTES {
            let problem = format!(
                "the line has {} bytes, more than {MAX_LINE_BYTES}",
                line.len()
            );
            return Err(malformed(&file.path, Some(index + 1), &problem));
        }
        lines.push((index + 1, line));
    }
    Ok(lines)
}

/// One JSON object a line.
///
/// # Errors
/// As [`lines`], and when a line is not a JSON object.
pub fn json_lines(file: &DataFile) -> Result<Vec<Record>, DataError> {
    let record = |(line, text): (usize, &str)| match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(Record {
            path: file.path.clone(),
            line: Some(line),
            item: None,
            fields,
        }),
        Ok(_) => Err(malformed(
            &file.path,
            Some(line),
            "the line is not a JSON object",
        )),
        Err(error) => {
            let problem = format!(
                "malformed JSON at column {}: {}",
                error.column(),
                reason(&error)
            );
            Err(malformed(&file.path, Some(line), &problem))
        }
    };
    lines(file)?.into_iter().map(record).collect()
}

/// The whole file as one JSON value.
///
/// # Errors
/// As [`text`], and when it is not JSON.
pub fn json(file: &DataFile) -> Result<Value, DataError> {
    serde_json::from_str(text(file)?).map_err(|error| {
        let problem = format!(
            "malformed JSON at column {}: {}",
            error.column(),
            reason(&error)
        );
        malformed(&file.path, Some(error.line()), &problem)
    })
}

/// The whole file as one JSON object.
///
/// # Errors
/// As [`json`], and when it is not an object.
pub fn json_object(file: &DataFile) -> Result<Record, DataError> {
    match json(file)? {
        Value::Object(fields) => Ok(Record {
            path: file.path.clone(),
            line: None,
            item: None,
            fields,
        }),
        _ => Err(malformed(&file.path, None, "the file is not a JSON object")),
    }
}

/// The whole file as a JSON list of objects.
///
/// # Errors
/// As [`json`], and when it is not a list of objects.
pub fn json_objects(file: &DataFile) -> Result<Vec<Record>, DataError> {
    let Value::Array(values) = json(file)? else {
        return Err(malformed(&file.path, None, "the file is not a JSON list"));
    };
    let record = |(index, value)| match value {
        Value::Object(fields) => Ok(Record {
            path: file.path.clone(),
            line: None,
            item: Some(format!("item {index}")),
            fields,
        }),
        _ => Err(malformed(
            &file.path,
            None,
            &format!("item {index} is not an object"),
        )),
    };
    values.into_iter().enumerate().map(record).collect()
}

/// Comma-separated rows, quoted by RFC 4180.
///
/// # Errors
/// As [`text`], and when a column is missing or a row has more or fewer fields than the header.
pub fn csv_rows(file: &DataFile, header: Header<'_>) -> Result<Vec<Record>, DataError> {
    rows(file, header, &mut ReaderBuilder::new())
}

/// Tab-separated rows without quoting.
///
/// # Errors
/// As [`csv_rows`].
pub fn tsv_rows(file: &DataFile, header: Header<'_>) -> Result<Vec<Record>, DataError> {
    rows(
        file,
        header,
        ReaderBuilder::new().delimiter(b'\t').quoting(false),
    )
}

/// Tab-separated rows, quoted as comma-separated ones are.
///
/// # Errors
/// As [`csv_rows`].
pub fn quoted_tsv_rows(file: &DataFile, header: Header<'_>) -> Result<Vec<Record>, DataError> {
    rows(file, header, ReaderBuilder::new().delimiter(b'\t'))
}

fn rows(
    file: &DataFile,
    header: Header<'_>,
    builder: &mut ReaderBuilder,
) -> Result<Vec<Record>, DataError> {
    let bytes = text(file)?.as_bytes();
    let mut reader = builder.has_headers(false).flexible(true).from_reader(bytes);
    let mut columns: Option<Vec<String>> = match header {
        Header::First(_) => None,
        Header::Absent(columns) => Some(columns.iter().map(|&column| column.to_owned()).collect()),
    };
    let mut records = Vec::new();
    let mut row = StringRecord::new();
    let (mut number, mut counted) = (1, 0);
    loop {
        // Counted here: the reader's own count is one behind where lines end in CR LF.
        let end = usize::try_from(reader.position().byte()).unwrap_or(bytes.len());
        let between = bytes
            .iter()
            .skip(end)
            .take_while(|&&byte| matches!(byte, b'\r' | b'\n'));
        let start = end + between.count();
        number += bytes
            .get(counted..start)
            .unwrap_or_default()
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        counted = start;
        let line = Some(number);
        let more = reader
            .read_record(&mut row)
            .map_err(|error| malformed(&file.path, line, &error.to_string()))?;
        if !more {
            break;
        }
        if row.as_slice().len() > MAX_LINE_BYTES {
            let problem = format!(
                "the row has {} bytes, more than {MAX_LINE_BYTES}",
                row.as_slice().len()
            );
            return Err(malformed(&file.path, line, &problem));
        }
        let Some(columns) = &columns else {
            columns = Some(read_header(file, line, &row, header)?);
            continue;
        };
        if row.len() != columns.len() {
            let problem = format!(
                "the row has {} fields instead of {}",
                row.len(),
                columns.len()
            );
            return Err(malformed(&file.path, line, &problem));
        }
        let named = columns
            .iter()
            .zip(&row)
            .map(|(name, text)| (name.clone(), Value::from(text)));
        records.push(Record {
            path: file.path.clone(),
            line,
            item: None,
            fields: named.collect(),
        });
    }
    if records.is_empty() {
        return Err(malformed(&file.path, None, "the file has no rows"));
    }
    Ok(records)
}

fn read_header(
    file: &DataFile,
    line: Option<usize>,
    row: &StringRecord,
    header: Header<'_>,
) -> Result<Vec<String>, DataError> {
    if let Header::First(wanted) = header
        && let Some(missing) = wanted
            .iter()
            .find(|wanted| !row.iter().any(|name| name == **wanted))
    {
        return Err(malformed(
            &file.path,
            line,
            &format!("the header has no column `{missing}`"),
        ));
    }
    Ok(row.iter().map(str::to_owned).collect())
}

/// What serde_json says, without the place it puts behind.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map(|(reason, _)| reason.to_owned())
        .unwrap_or(text)
}

fn malformed(path: &Path, line: Option<usize>, problem: &str) -> DataError {
    DataError {
        path: path.to_owned(),
        line,
        problem: problem.to_owned(),
        hint: HINT_RESTORE.to_owned(),
    }
}
