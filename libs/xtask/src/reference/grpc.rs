//! `docs/grpc-api.md`: services, methods and messages of the protos, with their comments.

use super::cell;
use anyhow::Context as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Numbers of the fields of a descriptor, of which paths to comments are made (descriptor.proto).
const SYNTAX: i32 = 12;
const MESSAGES: i32 = 4;
const SERVICES: i32 = 6;
const PARTS: i32 = 2;
const NESTED: i32 = 3;

const INTRODUCTION: &str = "\
# gRPC API

Written by `cargo xtask reference` from `proto/`; a test compares the two.

For services among themselves, on addresses that visitors do not reach.
Every server has standard health checking (`grpc.health.v1`) and reflection; deadlines and trace context travel in metadata.
`buf lint proto` and `buf breaking proto --against proto/baseline.binpb.gz` hold: the stored image is the contract of 0.1.0, because what stood before it was never released.
";

pub(super) fn rendered(protos: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    find(protos, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([protos]).context("read the protos")?;
    compiler.include_source_info(true).open_files(&files).context("compile the protos")?;
    let set = compiler.file_descriptor_set();
    let mut out = String::from(INTRODUCTION);
    let mut sorted: Vec<_> = set.file.iter().filter(|file| file.package().starts_with("attune.")).collect();
    sorted.sort_by_key(|file| file.package());
    sorted.iter().for_each(|file| package(&mut out, file));
    Ok(out)
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list the protos")?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// Comments by the path of what they are about.
struct Comments(HashMap<Vec<i32>, String>);

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let text = |location: &prost_types::source_code_info::Location| {
            let all = [location.leading_comments(), location.trailing_comments()].join(" ");
            (location.path.clone(), cell(&all))
        };
        Self(locations.map(text).filter(|(_, comment)| !comment.is_empty()).collect())
    }

    fn at(&self, path: &[i32]) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    /// As a paragraph of its own.
    fn paragraph(&self, out: &mut String, path: &[i32]) {
        if !self.at(path).is_empty() {
            let _ = write!(out, "{}\n\n", self.at(path));
        }
    }
}

/// Writing to a String cannot fail, here and below.
fn package(out: &mut String, file: &FileDescriptorProto) {
    let comments = Comments::of(file);
    let _ = write!(out, "\n## {}\n\n[{name}](../proto/{name}). ", file.package(), name = file.name());
    comments.paragraph(out, &[SYNTAX]);
    if comments.at(&[SYNTAX]).is_empty() {
        out.push_str("\n\n");
    }
    for (index, service) in (0..).zip(&file.service) {
        methods(out, file.package(), service, &comments, &[SERVICES, index]);
    }
    for (index, message) in (0..).zip(&file.message_type) {
        fields(out, file.package(), message.name(), message, &comments, &[MESSAGES, index]);
    }
    // One blank line before the next heading.
    out.truncate(out.trim_end().len());
    out.push('\n');
}

fn methods(out: &mut String, package: &str, service: &ServiceDescriptorProto, comments: &Comments, path: &[i32]) {
    let _ = write!(out, "### {}\n\n", service.name());
    comments.paragraph(out, path);
    out.push_str("| Method | Takes | Gives | Meaning |\n|---|---|---|---|\n");
    for (index, method) in (0..).zip(&service.method) {
        let side = |is_stream: bool, name: &str| {
            format!("{}{}", if is_stream { "stream of " } else { "" }, link(package, name))
        };
        let takes = side(method.client_streaming(), method.input_type());
        let gives = side(method.server_streaming(), method.output_type());
        let about = comments.at(&[path, &[PARTS, index]].concat());
        let _ = writeln!(out, "| `{}` | {takes} | {gives} | {about} |", method.name());
    }
    out.push('\n');
}

fn fields(out: &mut String, package: &str, name: &str, message: &DescriptorProto, comments: &Comments, path: &[i32]) {
    let _ = write!(out, "### {name}\n\n");
    comments.paragraph(out, path);
    if message.field.is_empty() {
        out.push_str("No fields.\n\n");
    } else {
        out.push_str("| Field | Number | Type | Meaning |\n|---|---|---|---|\n");
    }
    for (index, field) in (0..).zip(&message.field) {
        let about = comments.at(&[path, &[PARTS, index]].concat());
        let choice = match field.oneof_index.filter(|_| !field.proto3_optional()) {
            Some(oneof) => format!(", one of `{}`", message.oneof_decl[oneof as usize].name()),
            None => String::new(),
        };
        let _ =
            writeln!(out, "| `{}` | {} | {}{choice} | {about} |", field.name(), field.number(), kind(package, field));
    }
    if !message.field.is_empty() {
        out.push('\n');
    }
    for (index, nested) in (0..).zip(&message.nested_type) {
        let name = format!("{name}.{}", nested.name());
        fields(out, package, &name, nested, comments, &[path, &[NESTED, index]].concat());
    }
}

fn kind(package: &str, field: &FieldDescriptorProto) -> String {
    let name = match field.r#type() {
        Type::Message | Type::Enum => link(package, field.type_name()),
        scalar => format!("`{}`", scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase()),
    };
    match field.label() {
        Label::Repeated => format!("repeated {name}"),
        _ if field.proto3_optional() => format!("optional {name}"),
        _ => name,
    }
}

/// A message by its name, which within its package needs no package.
fn link(package: &str, full: &str) -> String {
    let full = full.trim_start_matches('.');
    let short = full.strip_prefix(package).map_or(full, |rest| rest.trim_start_matches('.'));
    format!("`{short}`")
}
