use prost::Message as _;
use std::path::{Path, PathBuf};

const PACKAGES: [&str; 9] =
    ["state", "decision", "storage", "origin", "retrieval", "ranking", "bandit", "llm", "telemetry"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    let files: Vec<PathBuf> = PACKAGES.iter().map(|name| root.join(format!("attune/{name}/v1/{name}.proto"))).collect();
    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    println!("cargo::rerun-if-changed=../../proto");
    Ok(())
}
