//! Debian's packages, from the mirror that the machine's own apt uses, without touching the machine's apt.
//!
//! apt-get gets a source list, lists, a cache and an empty package status of its own; signatures are checked as always.

use super::said;
use anyhow::Context as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Suites under whose name a machine may know the main archive, beside its release's code name.
const ALIASES: [&str; 6] = ["stable", "oldstable", "testing", "unstable", "sid", "experimental"];

#[derive(Debug, Clone, Copy)]
pub(super) enum Suite {
    /// The release that the machine runs: for programs that use its libraries.
    Own,
    /// The newest, for programs that need only a C library.
    Sid,
}

pub(super) struct Archive {
    pub(super) package: &'static str,
    pub(super) version: String,
    file: PathBuf,
}

/// Downloads into `folder`, dependencies left out.
pub(super) fn download(folder: &Path, suite: Suite, packages: &[&'static str]) -> anyhow::Result<Vec<Archive>> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = field(&release, "ID").filter(|id| *id == "debian").and_then(|_| field(&release, "VERSION_CODENAME"));
    let codename = codename.with_context(|| {
        format!("{} come from Debian, and this machine is not Debian: put the programs into the tools folder's bin/ yourself", packages.join(", "))
    })?;
    let uris = said(apt_get().args(["update", "--print-uris"]), "ask apt-get for its mirror")?;
    let mirror = mirror(&uris, codename).with_context(|| {
        format!("apt-get knows no mirror of Debian {codename}: see /etc/apt/sources.list and /etc/apt/sources.list.d")
    })?;
    let suite = match suite {
        Suite::Own => codename,
        Suite::Sid => "sid",
    };

    let apt = folder.join("apt");
    for part in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(part)).context("create folders for apt-get")?;
    }
    let signed = if Path::new(KEYRING).exists() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    fs::write(apt.join("sources.list"), format!("deb {signed}{mirror} {suite} main\n"))
        .context("write a source list")?;
    fs::write(apt.join("status"), "").context("write a package status")?;

    eprintln!("reading the package lists of Debian {suite}");
    said(own(&apt).arg("update"), "read the package lists")?;
    eprintln!("downloading {}", packages.join(", "));
    said(own(&apt).arg("download").args(packages).current_dir(folder), "download the packages")?;
    packages.iter().map(|package| archive(folder, package)).collect()
}

pub(super) fn unpack(archive: &Archive, into: &Path) -> anyhow::Result<()> {
    eprintln!("unpacking {} {}", archive.package, archive.version);
    said(Command::new("dpkg-deb").arg("-x").arg(&archive.file).arg(into), "unpack a package").map(drop)
}

fn archive(folder: &Path, package: &'static str) -> anyhow::Result<Archive> {
    let prefix = format!("{package}_");
    let files = fs::read_dir(folder).context("look for the downloaded packages")?;
    let file = files.filter_map(Result::ok).map(|entry| entry.path()).find(|path| {
        path.extension().is_some_and(|extension| extension == "deb")
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    });
    let file = file.with_context(|| format!("apt-get downloaded no {package}"))?;
    let version = said(Command::new("dpkg-deb").arg("-f").arg(&file).arg("Version"), "read a package's version")?;
    Ok(Archive { package, version: without_epoch(version.trim()).to_owned(), file })
}

/// A colon would end the path where folders are listed.
fn without_epoch(version: &str) -> &str {
    version.split_once(':').map_or(version, |(_, rest)| rest)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("LC_ALL", "C");
    command
}

fn own(apt: &Path) -> Command {
    let mut command = apt_get();
    let places = [
        ("Dir::Etc::sourcelist", apt.join("sources.list")),
        ("Dir::Etc::sourceparts", PathBuf::from("/dev/null")),
        ("Dir::State::Lists", apt.join("lists")),
        ("Dir::State::status", apt.join("status")),
        ("Dir::Cache", apt.join("cache")),
    ];
    for (key, place) in places {
        command.arg("-o").arg(format!("{key}={}", place.display()));
    }
    // The folder is ours alone, so apt's own user cannot write there.
    for option in [
        "APT::Sandbox::User=",
        "Acquire::Languages=none",
        "Acquire::Retries=2",
        "Acquire::http::Timeout=20",
        "APT::Update::Error-Mode=any",
    ] {
        command.args(["-o", option]);
    }
    command.args(["-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false", "-q"]);
    command
}

/// A value of `/etc/os-release`.
fn field<'a>(release: &'a str, key: &str) -> Option<&'a str> {
    let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(line.trim_matches('"'))
}

/// The main archive's address among those that `apt-get update --print-uris` names: `'ADDRESS/dists/SUITE/InRelease' ...`.
fn mirror<'a>(uris: &'a str, codename: &str) -> Option<&'a str> {
    let entries = || {
        uris.lines().filter_map(|line| {
            let address = line.strip_prefix('\'')?.split('\'').next()?.strip_suffix("/InRelease")?;
            address.rsplit_once("/dists/")
        })
    };
    let known = |suites: &[&str]| entries().find(|(_, suite)| suites.contains(suite)).map(|(address, _)| address);
    known(&[codename]).or_else(|| known(&ALIASES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URIS: &str = "\
'https://packages.example/node/dists/nodistro/InRelease' x 0
'http://mirror.example/debian-security/dists/bookworm-security/InRelease' x 0
'http://mirror.example/debian/dists/bookworm-updates/InRelease' x 0
'http://mirror.example/debian/dists/bookworm/InRelease' x 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0
";

    #[test]
    fn the_mirror_is_that_of_the_release() {
        assert_eq!(mirror(URIS, "bookworm"), Some("http://mirror.example/debian"));
        assert_eq!(mirror(URIS, "trixie"), None);
        assert_eq!(mirror(&URIS.replace("/bookworm/", "/stable/"), "bookworm"), Some("http://mirror.example/debian"));
        assert_eq!(mirror("", "bookworm"), None);
    }

    #[test]
    fn versions_name_folders() {
        assert_eq!(without_epoch("5:7.0.15-1~deb12u10"), "7.0.15-1~deb12u10");
        assert_eq!(without_epoch("3.5.3+ds1-6"), "3.5.3+ds1-6");
    }

    #[test]
    fn os_release_is_read() {
        let release = "ID=debian\nVERSION_CODENAME=\"bookworm\"\nVERSION_ID=12\n";
        assert_eq!(field(release, "ID"), Some("debian"));
        assert_eq!(field(release, "VERSION_CODENAME"), Some("bookworm"));
        assert_eq!(field(release, "VERSION"), None);
    }
}
