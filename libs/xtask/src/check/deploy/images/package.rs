//! The stage that packages, on `scratch`: the image of `attune` with the libraries that it is linked to, looked into and started.

use super::dockerfile::{DOCKERFILE, LABELS, USER};
use super::{fail_on, read};
use crate::check::deploy::steps::Steps;
use crate::check::process::{self, said};
use crate::tools::{containers, packages};
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SBOM: &str = "0.10.0";
const PORTS: &str = "8080 9101 9002";
/// The image's root read-only but for its state, as it is run in Compose and Kubernetes.
const ENTER: &str = r#"
root=$1; shift
mount --bind "$root" "$root"
mount -t tmpfs -o "$STATE" tmpfs "$root/var/lib/attune"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -o remount,ro,bind "$root"
exec chroot $AS "$root" "$@""#;

pub(super) fn check(root: &Path, tools: &Path, named: Option<&Path>, steps: &mut Steps) {
    let prepared = steps.take("images: program and its tree", || {
        let work = tempfile::Builder::new().prefix(".packaging-").tempdir_in(tools).context("create a folder")?;
        let seen = tree(root, tools, named, work.path())?;
        Ok((work, seen))
    });
    let Some(work) = prepared else { return };
    let built = steps.take("images: packaged on scratch", || package(root, tools, work.path()));
    let Some(layers) = built else { return };
    let unpacked = steps.take("images: what is in it", || {
        let unpacked = work.path().join("root");
        let seen = unpack(&layers, &unpacked)?;
        Ok((unpacked, seen))
    });
    let Some(unpacked) = unpacked else { return };
    steps.check("images: it starts, read-only", || start(root, &unpacked, work.path()));
}

/// What the Dockerfile's stage `build` makes, from programs that are there, and the libraries that `scratch` lacks.
fn tree(root: &Path, tools: &Path, named: Option<&Path>, work: &Path) -> anyhow::Result<String> {
    let attune = process::attune(root, named)?;
    let release = work.join("release");
    fs::create_dir_all(&release).context("create a folder")?;
    fs::copy(&attune, release.join("attune")).with_context(|| format!("copy {}", attune.display()))?;
    let out = work.join("out");
    let sbom = packages::cargo(tools, "cargo-sbom", SBOM)?;
    let path = std::env::join_paths(std::iter::once(sbom).chain(path_folders())).context("extend PATH")?;
    let mut lay_out = Command::new("helm/images/tree.sh");
    lay_out.current_dir(root).env("PATH", path).arg(&release).arg(&out).arg("attune");
    said(&mut lay_out, "lay out the image's tree")?;

    let host = said(Command::new("rustc").arg("-vV"), "ask rustc for its host")?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("find rustc's host")?;
    let target = root.join("target/static");
    let mut build = Command::new("cargo");
    build
        .current_dir(root)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .env("CARGO_TARGET_DIR", &target);
    build.args(["build", "--release", "--locked", "--package", "attune-health", "--target", host]);
    said(&mut build, "build attune-health")?;
    fs::create_dir_all(out.join("health")).context("create a folder")?;
    fs::copy(target.join(host).join("release/attune-health"), out.join("health/attune-health"))
        .context("copy attune-health")?;

    let libraries = libraries(&said(Command::new("ldd").arg(&attune), "list attune's libraries")?);
    for library in &libraries {
        let place = out.join("attune").join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("find a library's folder")?).context("create a library's folder")?;
        fs::copy(library, &place).with_context(|| format!("copy {library}"))?;
    }
    Ok(format!("attune with {} shared libraries, its list of crates, attune-health static", libraries.len()))
}

fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

/// The files in what `ldd` says: libraries, and the loader.
fn libraries(ldd: &str) -> Vec<String> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    ldd.lines().filter_map(path).collect()
}

/// Builds, and holds the configuration against what was asked for; gives the layers.
fn package(root: &Path, tools: &Path, work: &Path) -> anyhow::Result<(Vec<PathBuf>, String)> {
    let bin = containers::builders(tools)?;
    let ignore = work.join("ignore");
    fs::write(&ignore, "").context("write an ignore file")?;
    let image = format!("oci:{}:attune", work.join("image").display());
    let mut build = Command::new(bin.join("buildah"));
    build
        .arg("--root")
        .arg(work.join("storage"))
        .arg("--runroot")
        .arg(work.join("run"))
        .args(["--storage-driver", "vfs"]);
    build.args([
        "bud",
        "--isolation",
        "chroot",
        "--quiet",
        "--target",
        "service",
        "--tag",
        &image,
        "--signature-policy",
    ]);
    build.arg(bin.join("policy.json")).arg("--ignorefile").arg(&ignore).arg("--file").arg(root.join(DOCKERFILE));
    for arg in [
        "FILES=prebuilt",
        "BASE=scratch",
        "PROGRAM=attune",
        "VERSION=0.1.0",
        "REVISION=check",
        &format!("PORTS={PORTS}"),
    ] {
        build.arg("--build-arg").arg(arg);
    }
    said(build.arg(work.join("out")), "buildah bud")?;

    let inspect = |how: &str| {
        let text = said(Command::new(bin.join("skopeo")).args(["inspect", how, &image]), "skopeo inspect")?;
        serde_json::from_str::<Value>(&text).context("read what skopeo says")
    };
    let config = inspect("--config")?;
    fail_on(&problems(&config["config"]))?;
    let manifest = inspect("--raw")?;
    let digests = manifest["layers"].as_array().context("find the image's layers")?;
    let layers: Vec<_> = digests
        .iter()
        .filter_map(|layer| {
            Some(work.join("image/blobs/sha256").join(layer["digest"].as_str()?.strip_prefix("sha256:")?))
        })
        .collect();
    let seen =
        format!("{} layers; user, ports, {} labels, entry point, stop signal as asked", layers.len(), LABELS.len());
    Ok((layers, seen))
}

fn problems(config: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut want = |what: &str, found: &Value, wanted: Value| {
        if *found != wanted {
            problems.push(format!("{what} is {found} instead of {wanted}"));
        }
    };
    want("the user", &config["User"], USER.into());
    want("the entry point", &config["Entrypoint"], serde_json::json!(["/program"]));
    want("the folder", &config["WorkingDir"], "/var/lib/attune".into());
    want("the stop signal", &config["StopSignal"], "SIGTERM".into());
    let ports: serde_json::Map<_, _> =
        PORTS.split(' ').map(|port| (format!("{port}/tcp"), serde_json::json!({}))).collect();
    want("the list of ports", &config["ExposedPorts"], ports.into());
    want("the title", &config["Labels"]["org.opencontainers.image.title"], "attune".into());
    want("the revision", &config["Labels"]["org.opencontainers.image.revision"], "check".into());
    let empty = |label: &&&str| config["Labels"][**label].as_str().is_none_or(str::is_empty);
    problems.extend(LABELS.iter().filter(empty).map(|label| format!("the label {label} says nothing")));
    problems
}

fn unpack(layers: &[PathBuf], into: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(into).context("create a folder")?;
    let mut wrong = Vec::new();
    let mut files = 0;
    for layer in layers {
        let list = said(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(layer), "list a layer")?;
        files += list.lines().count();
        wrong.extend(list.lines().filter_map(entry_problem));
        said(Command::new("tar").args(["--numeric-owner", "-xpf"]).arg(layer).arg("-C").arg(into), "unpack a layer")?;
    }
    fail_on(&wrong)?;
    if fs::read_link(into.join("program")).context("read the entry point")? != Path::new("usr/local/bin/attune") {
        bail!("the entry point is not attune");
    }
    let health = said(Command::new("ldd").arg(into.join("usr/local/bin/attune-health")), "look at attune-health");
    if health.is_ok_and(|libraries| libraries.contains("=>")) {
        bail!("attune-health is not static");
    }
    let sbom: Value = serde_json::from_str(&read(&into.join("usr/share/doc/attune/sbom.spdx.json"))?)
        .context("read the list of crates")?;
    let packages = sbom["packages"].as_array().context("find the packages in the list of crates")?;
    for name in ["attune", "attune-edge", "tokio"] {
        if !packages.iter().any(|package| package["name"] == name) {
            bail!("the list of crates lacks {name}");
        }
    }
    Ok(format!(
        "{files} entries, none that others may write or that changes the user; {} packages listed",
        packages.len()
    ))
}

/// What is wrong with a line of `tar -tv`: `MODE UID/GID SIZE DATE TIME NAME`.
fn entry_problem(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (mode, owner) = (words.next()?, words.next()?);
    let name = words.nth(3)?.trim_start_matches("./");
    let bits = mode.as_bytes();
    if mode.contains('s') {
        return Some(format!("{name} changes the user that runs it"));
    }
    if !mode.starts_with('l') && bits.get(8) == Some(&b'w') {
        return Some(format!("anybody may write {name}"));
    }
    if name.rsplit('/').next()?.starts_with(".wh.") {
        return Some(format!("{name} hides a file of an earlier layer"));
    }
    let is_state = name.trim_end_matches('/') == "var/lib/attune" || name.starts_with("var/lib/attune/");
    (!is_state && !owner.starts_with("0/")).then(|| format!("{name} belongs to {owner}"))
}

fn start(root: &Path, unpacked: &Path, work: &Path) -> anyhow::Result<String> {
    for folder in ["proc", "dev", "etc/attune"] {
        fs::create_dir_all(unpacked.join(folder)).context("create what a runtime mounts")?;
    }
    fs::copy(root.join("helm/compose/attune-observed.toml"), unpacked.join("etc/attune/attune.toml"))
        .context("copy the settings")?;
    let is_root = said(Command::new("id").arg("-u"), "ask who runs this")?.trim() == "0";
    let mut run = Command::new("unshare");
    if is_root {
        run.env("STATE", "uid=65532,gid=65532,mode=0700").env("AS", format!("--userspec={USER}"));
    } else {
        run.args(["--user", "--map-root-user"]).env("STATE", "mode=0700").env("AS", "--");
    }
    run.args(["--mount", "sh", "-euc", ENTER, "enter"]).arg(unpacked);
    // The command of compose.yaml, on a free port.
    run.args([
        "/program",
        "up",
        "--json",
        "--listen=127.0.0.1:0",
        "--state=/var/lib/attune/state",
        "--config=/etc/attune/attune.toml",
    ]);
    let begun = std::time::Instant::now();
    let (_server, line) = process::ready(&mut run, &work.join("attune.log"))?;
    let took = begun.elapsed();
    let address = |value: &Value| value.as_str().and_then(|url| url.strip_prefix("http://")).map(str::to_owned);
    let edge = address(&line["edge"]).context("find the edge's address")?;
    let admin = address(&line["admin"]["edge"]).context("find the admin address")?;

    let health = unpacked.join("usr/local/bin/attune-health");
    said(Command::new(&health).arg(format!("http://{admin}/readyz")), "ask attune-health")?;
    super::refused(Command::new(&health).arg(format!("http://{admin}/nothing")), "a route that is not there", "404")?;
    let (status, page) = process::ask(&edge, "POST", "/v1/personalize", r#"{"user_id":"1","limit":3}"#)?;
    let page: Value = serde_json::from_str(&page).context("read a page")?;
    if status != 200 || page["items"].as_array().is_none_or(|items| items.len() != 3) {
        bail!("a page was answered {status}: {page}");
    }
    let who = if is_root { USER } else { "the user who runs this, because only root can become another" };
    Ok(format!("ready after {:.1} s as {who}; a page of 3 items", took.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        let labels: serde_json::Map<_, _> = LABELS.iter().map(|label| ((*label).to_owned(), "x".into())).collect();
        let mut config = serde_json::json!({
            "User": USER, "Entrypoint": ["/program"], "WorkingDir": "/var/lib/attune", "StopSignal": "SIGTERM",
            "ExposedPorts": {"8080/tcp": {}, "9101/tcp": {}, "9002/tcp": {}}, "Labels": labels,
        });
        config["Labels"]["org.opencontainers.image.title"] = "attune".into();
        config["Labels"]["org.opencontainers.image.revision"] = "check".into();
        config
    }

    #[test]
    fn an_image_that_is_not_as_asked_is_refused() {
        assert_eq!(problems(&config()), [""; 0]);
        for (pointer, value) in [
            ("/User", "root"),
            ("/User", ""),
            ("/Entrypoint/0", "/bin/sh"),
            ("/WorkingDir", "/"),
            ("/StopSignal", "SIGKILL"),
            ("/ExposedPorts", "8080"),
            ("/Labels/org.opencontainers.image.revision", "other"),
            ("/Labels/dev.attune.sbom", ""),
        ] {
            let mut changed = config();
            *changed.pointer_mut(pointer).unwrap() = value.into();
            assert_eq!(problems(&changed).len(), 1, "{pointer} {value}");
        }
    }

    #[test]
    fn entries_belong_to_root_and_change_nobody() {
        for good in [
            "-rwxr-xr-x 0/0 121481952 2026-11-26 12:21 usr/local/bin/attune",
            "lrwxrwxrwx 0/0 0 2026-11-26 12:21 program -> usr/local/bin/attune",
            "drwxr-xr-x 65532/65532 0 2026-11-26 12:21 var/lib/attune/",
        ] {
            assert_eq!(entry_problem(good), None);
        }
        for bad in [
            "-rwsr-xr-x 0/0 1 2026-11-26 12:21 usr/bin/su",
            "-rwxr-xrwx 0/0 1 2026-11-26 12:21 usr/local/bin/attune",
            "-rwxr-xr-x 65532/65532 1 2026-11-26 12:21 usr/local/bin/attune",
            "-rw-r--r-- 0/0 0 2026-11-26 12:21 usr/.wh.bin",
        ] {
            assert!(entry_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn libraries_are_files() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        assert_eq!(libraries(ldd), ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }
}
