//! How much memory a program's processes take together; each alone is limited by the kernel.

use std::{
    io::Read as _,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
    unistd::{Pid, SysconfVar, sysconf},
};

/// Resident memory of a process and its descendants, in bytes; processes that end meanwhile do not count.
pub(super) fn resident_bytes(proc: &OwnedFd, ancestor: Pid) -> u64 {
    let page = sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .unwrap_or(4096);
    let mut pages = 0;
    let mut waiting = vec![ancestor.to_string()];
    while let Some(process) = waiting.pop() {
        pages += resident_pages(proc, &process).unwrap_or_default();
        for thread in threads(proc, &process).unwrap_or_default() {
            let children = read(proc, &format!("{process}/task/{thread}/children"));
            waiting.extend(
                children
                    .unwrap_or_default()
                    .split_whitespace()
                    .map(str::to_owned),
            );
        }
    }
    pages.saturating_mul(page as u64)
}

fn resident_pages(proc: &OwnedFd, process: &str) -> Option<u64> {
    read(proc, &format!("{process}/statm"))?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

fn threads(proc: &OwnedFd, process: &str) -> Option<Vec<String>> {
    let path = PathBuf::from(format!("{process}/task"));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = Dir::openat(proc.as_fd(), &path, flags, Mode::empty()).ok()?;
    let names = folder
        .iter()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Some(names.filter(|name| !name.starts_with('.')).collect())
}

fn read(proc: &OwnedFd, path: &str) -> Option<String> {
    let file = openat(
        proc.as_fd(),
        path,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text).ok()?;
    Some(text)
}
