//! From what the processes left behind to a verdict.

use nix::sys::signal::Signal;

use super::Limits;

/// Longest reason, in bytes of the runner's report.
const LONGEST_REASON: usize = 1200;

/// Why the warden ended a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It reached the wall time limit.
    Time,
    /// It printed too much.
    Output,
    /// Its processes together took too much memory.
    Memory,
}

/// How the interpreter ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Ending {
    /// As init writes it.
    pub(super) fn to_text(self) -> String {
        match self {
            Self::Code(code) => format!("code {code}"),
            Self::Signal(signal) => format!("signal {signal}"),
        }
    }

    /// What init wrote.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("code", number) => number.parse().ok().map(Self::Code),
            ("signal", number) => number.parse().ok().map(Self::Signal),
            _ => None,
        }
    }
}

/// Whether a program passed, and the reason.
///
/// `report` is all that came through the runner's pipe: `r` (ready), then `p` and the token, or `f` and a reason.
pub(super) fn judge(
    stop: Option<Stop>,
    ending: Option<Ending>,
    report: &[u8],
    token: &[u8],
    limits: &Limits,
) -> (bool, String) {
    let failed = |reason: String| (false, reason);
    match stop {
        Some(Stop::Time) => {
            return failed(format!("timed out after {} s", limits.wall.as_secs_f64()));
        }
        Some(Stop::Output) => return failed("too much output".to_owned()),
        Some(Stop::Memory) => return failed("out of memory".to_owned()),
        None => (),
    }
    let report = report.strip_prefix(b"r").unwrap_or(report);
    match (ending, report.split_first()) {
        (Some(Ending::Code(0)), Some((b'p', proof))) if !token.is_empty() && proof == token => {
            (true, "passed".to_owned())
        }
        (Some(Ending::Code(1)), Some((b'f', reason))) => failed(clean(reason)),
        (Some(Ending::Code(_)), Some(_)) => failed("meddled with the runner's report".to_owned()),
        (Some(Ending::Code(code)), None) => {
            failed(format!("exited before its end with code {code}"))
        }
        (Some(Ending::Signal(signal)), _) if signal == Signal::SIGXCPU as i32 => {
            failed("out of processor time".to_owned())
        }
        (Some(Ending::Signal(signal)), _) => {
            let name = Signal::try_from(signal).map_or("", Signal::as_str);
            failed(format!("killed by signal {signal} ({name})"))
        }
        (None, _) => failed("ended its own namespace".to_owned()),
    }
}

/// Text from a program, without what could confuse a terminal.
fn clean(reason: &[u8]) -> String {
    let reason = reason.get(..LONGEST_REASON).unwrap_or(reason);
    let text = String::from_utf8_lossy(reason);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars()
        .map(plain)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_and_a_clean_end_pass() {
        let limits = Limits::default();
        let (zero, one) = (Some(Ending::Code(0)), Some(Ending::Code(1)));
        for (stop, ending, report, reason) in [
            (None, zero, &b"rpTOKEN"[..], "passed"),
            (None, zero, b"r", "exited before its end with code 0"),
            (None, zero, b"rp", "meddled with the runner's report"),
            (None, zero, b"rpTOKE", "meddled with the runner's report"),
            (
                None,
                zero,
                b"rpTOKENTOKEN",
                "meddled with the runner's report",
            ),
            (None, zero, b"rxpTOKEN", "meddled with the runner's report"),
            (
                None,
                zero,
                b"rfValueError",
                "meddled with the runner's report",
            ),
            (None, one, b"rpTOKEN", "meddled with the runner's report"),
            (None, one, b"rfValueError: \x1b[31m\n", "ValueError:  [31m"),
            (
                None,
                Some(Ending::Signal(9)),
                b"rpTOKEN",
                "killed by signal 9 (SIGKILL)",
            ),
            (
                None,
                Some(Ending::Signal(24)),
                b"r",
                "out of processor time",
            ),
            (None, None, b"rpTOKEN", "ended its own namespace"),
            (Some(Stop::Time), None, b"rpTOKEN", "timed out after 3 s"),
            (Some(Stop::Output), zero, b"rpTOKEN", "too much output"),
            (Some(Stop::Memory), zero, b"rpTOKEN", "out of memory"),
        ] {
            let expected = (reason == "passed", reason.to_owned());
            assert_eq!(judge(stop, ending, report, b"TOKEN", &limits), expected);
        }
        assert!(!judge(None, zero, b"rp", b"", &limits).0);
    }

    #[test]
    fn endings_survive_their_text() {
        for ending in [Ending::Code(0), Ending::Code(255), Ending::Signal(11)] {
            assert_eq!(Ending::from_text(&ending.to_text()), Some(ending));
        }
        assert_eq!(Ending::from_text("error no interpreter"), None);
    }
}
