//! Apache Kafka from Maven's registry, through the machine's own `mvn` and its settings.

use super::{check, link, put, work_folder, write_script};
use anyhow::{Context as _, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Newer ones did not resolve when this was written: 4.4.0 names an artifact that is not there.
const VERSION: &str = "4.3.1";
/// The second lets the broker log.
const ARTIFACTS: [(&str, &str, &str); 2] =
    [("org.apache.kafka", "kafka_2.13", VERSION), ("org.slf4j", "slf4j-simple", "1.7.36")];
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
const HINT: &str = "apt-get install maven openjdk-17-jre-headless";

/// A broker of tests: little memory, and quick to start rather than quick. It leaves no files outside `$TMPDIR` when it is killed.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec java -Xms128m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
    -Djava.io.tmpdir="${TMPDIR:-/tmp}" -cp "$here/lib/*" "$@"
"#;

pub(super) fn install(folder: &Path) -> anyhow::Result<()> {
    ran(Command::new("java").arg("-version"), "java")?;
    let work = work_folder(folder)?;
    let unpacked = work.path().join("kafka");
    let lib = unpacked.join("lib");
    fs::create_dir_all(&lib).context("create a folder for the jars")?;
    jars(work.path(), &ARTIFACTS, &lib)?;

    write_script(&unpacked.join("kafka"), SCRIPT)?;
    check(&unpacked.join("kafka"), &["kafka.Kafka", "--version"])?;
    let place = folder.join(format!("kafka-{VERSION}"));
    put(&unpacked, &place)?;
    link(&place.join("kafka"), &folder.join("bin/kafka"))
}

/// Kafka's `kafka-topics.sh`: the same without the rest of the distribution.
pub(crate) fn topics(folder: &Path) -> anyhow::Result<PathBuf> {
    let place = folder.join(format!("kafka-tools-{VERSION}"));
    let program = place.join("kafka-topics");
    if !program.exists() {
        ran(Command::new("java").arg("-version"), "java")?;
        let work = work_folder(folder)?;
        let unpacked = work.path().join("kafka-tools");
        let lib = unpacked.join("lib");
        fs::create_dir_all(&lib).context("create a folder for the jars")?;
        jars(work.path(), &[("org.apache.kafka", "kafka-tools", VERSION), ARTIFACTS[1]], &lib)?;
        let script = SCRIPT.replace("\"$@\"", "org.apache.kafka.tools.TopicCommand \"$@\"");
        write_script(&unpacked.join("kafka-topics"), &script)?;
        check(&unpacked.join("kafka-topics"), &["--version"])?;
        put(&unpacked, &place)?;
    }
    Ok(program)
}

/// Artifacts and what they need at run time, in one folder.
fn jars(work: &Path, artifacts: &[(&str, &str, &str)], lib: &Path) -> anyhow::Result<()> {
    let pom = work.join("pom.xml");
    fs::write(&pom, pom_text(artifacts)).context("write what Maven shall resolve")?;
    eprintln!("downloading Kafka {VERSION}");
    let mut mvn = Command::new("mvn");
    mvn.current_dir(work).args(["--batch-mode", "--quiet", PLUGIN, "-DincludeScope=runtime"]);
    mvn.arg(format!("-DoutputDirectory={}", lib.display()));
    // The user's own repository stays as it is.
    mvn.arg(format!("-Dmaven.repo.local={}", work.join("repository").display()));
    ran(&mut mvn, "mvn")
}

fn pom_text(artifacts: &[(&str, &str, &str)]) -> String {
    let dependency = |(group, artifact, version): &(&str, &str, &str)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>attune</groupId><artifactId>tools</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{}</dependencies></project>\n",
        artifacts.iter().map(dependency).collect::<String>()
    )
}

fn ran(command: &mut Command, program: &str) -> anyhow::Result<()> {
    let answer = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("Kafka needs {program}, which is not installed: {HINT}")
        }
        answer => answer.with_context(|| format!("start {program}"))?,
    };
    if !answer.status.success() {
        bail!("{program} failed: {}", reason(&answer));
    }
    Ok(())
}

/// Maven tells its errors on stdout, the first of them being the one that explains.
fn reason(answer: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    let error = stdout.lines().find_map(|line| line.strip_prefix("[ERROR] "));
    let last = || stderr.lines().rev().find(|line| !line.trim().is_empty());
    error.or_else(last).unwrap_or("no message").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    #[test]
    fn the_pom_names_every_artifact_with_its_version() {
        let pom = pom_text(&ARTIFACTS);
        for (_, artifact, version) in ARTIFACTS {
            assert!(pom.contains(&format!("<artifactId>{artifact}</artifactId><version>{version}</version>")), "{pom}");
        }
    }

    #[test]
    fn a_failure_is_told_from_where_it_stands() {
        let check = |stdout: &str, stderr: &str, expected: &str| {
            let status = ExitStatus::from_raw(256);
            assert_eq!(reason(&Output { status, stdout: stdout.into(), stderr: stderr.into() }), expected);
        };
        check("[ERROR] no such artifact\n[ERROR] see the help\n", "a warning\n", "no such artifact");
        check("", "Error: no room\n\n", "Error: no room");
        check("", "", "no message");
    }

    #[test]
    fn a_missing_program_is_told_with_its_package() {
        let failure = ran(&mut Command::new("/nonexistent/mvn"), "mvn").unwrap_err().to_string();
        assert!(failure.contains("openjdk"), "{failure}");
    }
}
