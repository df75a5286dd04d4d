//! ClickHouse as a library, from the registry of Python's packages that the machine's own pip knows.

use super::{check, link, put, said, work_folder, write_script};
use anyhow::Context as _;
use std::fs;
use std::path::Path;
use std::process::Command;

const VERSION: &str = "4.4.0";
/// The wrapper and the engine. What they can use besides is not needed to answer in JSON, and is large.
const PACKAGES: [&str; 2] = ["chdb==4.4.0", "chdb-core==26.9.0"];

const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH="$here/site" exec python3 "$here/ask.py" "$@"
"#;

/// Reads `{"folder", "statements": [...], "queries": [...]}` and answers with the rows of each query.
const ASK: &str = r#"import json, sys
from chdb import session

if "--version" in sys.argv:
    import chdb
    print(chdb.__version__)
    sys.exit()
asked = json.load(sys.stdin)
clickhouse = session.Session(asked["folder"])
for statement in asked["statements"]:
    try:
        clickhouse.query(statement)
    except Exception as error:
        sys.exit(f"{error}\nin: {statement}")
answers = []
for query in asked["queries"]:
    try:
        text = str(clickhouse.query(query + "\nSETTINGS output_format_json_quote_64bit_integers = 0", "JSONCompact"))
    except Exception as error:
        sys.exit(f"{error}\nin: {query}")
    answers.append(json.loads(text)["data"])
json.dump(answers, sys.stdout)
"#;

pub(super) fn install(folder: &Path) -> anyhow::Result<()> {
    let work = work_folder(folder)?;
    let ready = work.path().join("chdb");
    eprintln!("downloading chdb {VERSION}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps"]);
    pip.arg("--target").arg(ready.join("site")).args(PACKAGES);
    said(&mut pip, "install chdb with pip")?;
    fs::write(ready.join("ask.py"), ASK).context("write the program around chdb")?;
    write_script(&ready.join("chdb"), SCRIPT)?;
    check(&ready.join("chdb"), &["--version"])?;
    let place = folder.join(format!("chdb-{VERSION}"));
    put(&ready, &place)?;
    link(&place.join("chdb"), &folder.join("bin/chdb"))
}
