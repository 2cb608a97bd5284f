//! What harness and warden say to each other: JSON behind its length.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Execution, Isolation, Limits, SandboxError, interpreter::Interpreter};

/// The argument that makes this program a warden.
pub(super) const WARDEN: &str = "sandbox-warden";

/// Longest message, in bytes.
const MAXIMUM: usize = 64 << 20;

/// The first message to a warden; programs follow, as strings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) isolation: Isolation,
    pub(super) limits: Limits,
    pub(super) interpreter: Interpreter,
}

/// What a warden answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// To the setup.
    Ready { landlock: Option<u32> },
    /// To a program.
    Done(Execution),
    /// The sandbox failed.
    Failed(SandboxError),
}

/// Sends a message.
///
/// # Errors
/// When it is too long or nobody reads it.
pub(super) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok();
    let length = length.filter(|&length| length as usize <= MAXIMUM);
    let length = length.ok_or_else(|| io::Error::other("message too long"))?;
    to.write_all(&[&length.to_le_bytes(), text.as_slice()].concat())?;
    to.flush()
}

/// Receives a message.
///
/// # Errors
/// When the other side is gone or speaks something else.
pub(super) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAXIMUM {
        return Err(io::Error::other("message too long"));
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
