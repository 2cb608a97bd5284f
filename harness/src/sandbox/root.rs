//! The root folder programs see: the interpreter, its libraries, four devices and an empty `/tmp`, all read-only.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::OFlag,
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statvfs::{FsFlags, statvfs},
    unistd::{chdir, getegid, geteuid, pivot_root},
};

use super::{SandboxError, interpreter::Interpreter};

pub(super) const HINT: &str = "`--sandbox rlimits` runs programs without namespaces, which protects less: only inside a container or machine that may be lost";

/// Where the new root is built; nothing outside the new mount namespace sees it.
const SITE: &str = "/tmp";

/// Where executables look for the dynamic loader; links to folders below `/usr` on most systems.
const LOADER_FOLDERS: &[&str] = &["/lib", "/lib64"];

const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// User and group `nobody`, for programs that root runs.
const NOBODY: u32 = 65534;

/// What remains of the old world.
#[derive(Debug)]
pub(super) struct Outside {
    /// `/proc`: maps of users are written and memory is read through it.
    pub(super) proc: OwnedFd,
    /// The user and group that programs are, seen from here.
    pub(super) ids: (u32, u32),
}

impl Outside {
    /// For programs that stay in the machine's own namespaces.
    ///
    /// # Errors
    /// Without `/proc`.
    pub(super) fn unchanged() -> Result<Self, SandboxError> {
        let proc = open_path(Path::new("/proc")).map_err(|error| refused("`/proc`", error))?;
        Ok(Self { proc, ids: (0, 0) })
    }
}

/// Everything programs may read: the interpreter, its folders, the dynamic loader and the loader's index.
pub(super) fn readable(interpreter: &Interpreter) -> Vec<PathBuf> {
    let mut paths = interpreter.folders.clone();
    paths.extend([
        interpreter.executable.clone(),
        PathBuf::from("/etc/ld.so.cache"),
    ]);
    for folder in LOADER_FOLDERS {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        paths.extend(
            names
                .map(|entry| entry.path())
                .filter(|path| is_loader(path)),
        );
    }
    // Twice: as it is named, and where it really is; never through `/lib`, which becomes a link.
    let spellings = |path: PathBuf| {
        let parent = path
            .parent()
            .and_then(|parent| fs::canonicalize(parent).ok());
        let named = parent
            .zip(path.file_name())
            .map(|(parent, name)| parent.join(name));
        let literal = LOADER_FOLDERS
            .iter()
            .all(|folder| !path.starts_with(folder));
        [fs::canonicalize(&path).ok(), named, literal.then_some(path)]
    };
    let all: BTreeSet<PathBuf> = paths
        .into_iter()
        .flat_map(spellings)
        .flatten()
        .filter(|path| path.exists())
        .collect();
    // A folder comes before what lies in it.
    let mut outermost: Vec<PathBuf> = Vec::new();
    for path in all {
        if path.parent().is_some() && !outermost.iter().any(|outer| path.starts_with(outer)) {
            outermost.push(path);
        }
    }
    outermost
}

/// `ld-linux-x86-64.so.2`, `ld-musl-aarch64.so.1`.
fn is_loader(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["ld-linux", "ld-musl", "ld64.so"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Moves this process into a mount namespace with the new root.
///
/// # Errors
/// When the kernel allows no namespaces; says which setting forbids them.
pub(super) fn enter(interpreter: &Interpreter) -> Result<Outside, SandboxError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let privileged = uid == 0 && unshare(CloneFlags::CLONE_NEWNS).is_ok();
    if !privileged {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(|error| refused("user and mount namespaces", error))?;
        let map = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| refused("a user namespace", error))
        };
        map("setgroups", "deny".to_owned())?;
        map("uid_map", format!("0 {uid} 1"))?;
        map("gid_map", format!("0 {gid} 1"))?;
    }
    let proc = open_path(Path::new("/proc")).map_err(|error| refused("`/proc`", error))?;
    build(interpreter).map_err(|error| refused("a root folder of its own", error))?;
    let ids = if privileged { (NOBODY, NOBODY) } else { (0, 0) };
    Ok(Outside { proc, ids })
}

/// An error with the setting that may cause it.
pub(super) fn refused(what: &str, error: impl std::fmt::Display) -> SandboxError {
    let setting = |name: &str| {
        fs::read_to_string(format!("/proc/sys/{name}")).map(|text| text.trim().to_owned())
    };
    let is = |name: &str, value: &str| setting(name).is_ok_and(|found| found == value);
    let cause = if is("kernel/unprivileged_userns_clone", "0") {
        "`sysctl kernel.unprivileged_userns_clone=1` allows them; otherwise "
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` allows them; otherwise "
    } else if is("user/max_user_namespaces", "0") {
        "`sysctl user.max_user_namespaces=10000` allows them; otherwise "
    } else if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined --cap-add SYS_ADMIN`; otherwise "
    } else {
        ""
    };
    SandboxError::new(
        format!("the kernel does not give the sandbox {what}: {error}"),
        format!("{cause}{HINT}"),
    )
}

/// Opens something without reading it.
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = (OFlag::O_PATH | OFlag::O_CLOEXEC).bits();
    Ok(OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?
        .into())
}

/// A failed step with the path it failed on.
fn at(path: &Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn build(interpreter: &Interpreter) -> io::Result<()> {
    let none = None::<&str>;
    // Opened first: the site may hide them.
    let mut sources = Vec::new();
    for path in readable(interpreter) {
        sources.push((
            open_path(&path).map_err(|error| at(&path, error))?,
            path,
            true,
        ));
    }
    for device in DEVICES
        .iter()
        .map(Path::new)
        .filter(|device| device.exists())
    {
        sources.push((open_path(device)?, device.to_owned(), false));
    }

    // Without this, mounts would show outside.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let site = Path::new(SITE);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        site,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=1m"),
    )
    .map_err(|error| at(site, error))?;
    for path in LOADER_FOLDERS.iter().map(Path::new) {
        if let Ok(target) = fs::read_link(path) {
            // An absolute target would point out of the site while it is being filled.
            let target = target.strip_prefix("/").unwrap_or(&target);
            place(&site.join(target), true)?;
            symlink(target, inside(site, path))?;
        }
    }
    for (source, path, restrict) in sources {
        let target = inside(site, &path);
        let origin = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
        place(&target, fs::metadata(&origin)?.is_dir()).map_err(|error| at(&path, error))?;
        mount(
            Some(&origin),
            &target,
            none,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            none,
        )
        .map_err(|error| at(&path, error))?;
        if restrict {
            for mounted in mounts_below(&target)? {
                make_read_only(&mounted).map_err(|error| at(&mounted, error))?;
            }
        }
    }
    place(&site.join("tmp"), true)?;

    chdir(site)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    let flags =
        flags | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    Ok(mount(none, "/", none, flags, none)?)
}

fn inside(site: &Path, path: &Path) -> PathBuf {
    site.join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes an empty folder or file to mount on.
fn place(target: &Path, folder: bool) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755);
    if folder {
        return builder.create(target);
    }
    if let Some(parent) = target.parent() {
        builder.create(parent)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(target)
        .map(drop)
}

/// A mount point and those in it.
fn mounts_below(target: &Path) -> io::Result<Vec<PathBuf>> {
    let target = fs::canonicalize(target)?;
    let unescape = |text: &str| {
        text.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
    };
    let text = io::read_to_string(File::open("/proc/self/mountinfo")?)?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| point.starts_with(&target))
        .collect())
}

/// Remounts; flags that a user namespace must not take away stay.
fn make_read_only(target: &Path) -> nix::Result<()> {
    let mut flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV;
    if statvfs(target)?.flags().contains(FsFlags::ST_NOEXEC) {
        flags |= MsFlags::MS_NOEXEC;
    }
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

/// Flags of a fresh folder for files, in `mount`'s words.
pub(super) fn mount_work_folder(bytes: u64) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=0700,size={bytes},nr_inodes=4096");
    mount(
        Some("tmpfs"),
        "/tmp",
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
}

/// `libc`'s name for the flags of a program's own namespaces.
pub(super) fn namespaces() -> CloneFlags {
    CloneFlags::from_bits_truncate(
        libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
    )
}
