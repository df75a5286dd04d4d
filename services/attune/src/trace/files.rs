//! Kept traces in the files that the processes of a platform write: a line is one process's part of one trace, as OTLP
//! JSON. A full file is renamed to `.1`.

use anyhow::Context as _;
use attune_domain::RequestId;
use attune_runtime::{Exit, OrExit as _};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A part has 256 spans at most; what is longer than this was not written by us.
const LONGEST_LINE: u64 = 16 << 20;
const ID_FIELD: &str = "\"traceId\":\"";

pub(crate) struct TraceFiles(BTreeSet<PathBuf>);

/// All that was kept of a trace.
pub(crate) struct Kept {
    pub(crate) id: RequestId,
    pub(crate) export: ExportTraceServiceRequest,
}

/// A span and where it comes from.
#[derive(Clone, Copy)]
pub(crate) struct Placed<'k> {
    pub(crate) service: &'k str,
    pub(crate) version: Option<&'k AnyValue>,
    pub(crate) span: &'k Span,
}

impl TraceFiles {
    /// Those in the folder, and `named` whatever it is called.
    pub(crate) fn of(folder: &Path, named: Option<&Path>) -> anyhow::Result<Self> {
        let mut found = BTreeSet::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // A platform that has not run yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self(found)),
            Err(error) => return Err(error).with_context(|| format!("read {}", folder.display())).or_exit(Exit::Data),
        };
        for entry in entries {
            let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
            let name = path.to_str().unwrap_or_default();
            if name.ends_with(".otlp.jsonl") || name.ends_with(".otlp.jsonl.1") {
                found.insert(path);
            }
        }
        for path in named.into_iter().flat_map(|path| [path.to_owned(), rotated(path)]).filter(|path| path.is_file()) {
            found.insert(path);
        }
        Ok(Self(found))
    }

    /// Everything of one trace.
    pub(crate) fn one(&self, id: RequestId) -> anyhow::Result<Option<Kept>> {
        Ok(self.all(&BTreeSet::from([id]))?.pop())
    }

    /// The newest, newest first. Ids begin with their time.
    pub(crate) fn newest(&self, most: usize) -> anyhow::Result<Vec<Kept>> {
        let mut ids = BTreeSet::new();
        self.each_line(|id, _| {
            ids.insert(id);
            if ids.len() > most {
                ids.pop_first();
            }
        })?;
        self.all(&ids)
    }

    /// Each part of those traces that are wanted, as it lies in the files.
    pub(crate) fn each(&self, wanted: impl Fn(RequestId) -> bool, mut see: impl FnMut(&Kept)) -> anyhow::Result<()> {
        self.each_line(|id, line| {
            if wanted(id)
                && let Ok(export) = serde_json::from_str(line)
            {
                see(&Kept { id, export });
            }
        })
    }

    fn all(&self, wanted: &BTreeSet<RequestId>) -> anyhow::Result<Vec<Kept>> {
        let mut found: BTreeMap<RequestId, ExportTraceServiceRequest> = BTreeMap::new();
        let mut damaged = 0;
        self.each_line(|id, line| {
            if !wanted.contains(&id) {
                return;
            }
            match serde_json::from_str::<ExportTraceServiceRequest>(line) {
                Ok(part) => found.entry(id).or_default().resource_spans.extend(part.resource_spans),
                // Its process was killed while it wrote, or is writing it now.
                Err(_) => damaged += 1,
            }
        })?;
        if damaged > 0 {
            crate::output::note(&format!("attune: {damaged} parts of traces are cut off and left out"));
        }
        Ok(found.into_iter().rev().map(|(id, export)| Kept { id, export }).collect())
    }

    fn each_line(&self, mut line_of: impl FnMut(RequestId, &str)) -> anyhow::Result<()> {
        for path in &self.0 {
            let context = || format!("read {}", path.display());
            let mut reader = BufReader::new(File::open(path).with_context(context).or_exit(Exit::Data)?);
            let mut line = Vec::new();
            loop {
                line.clear();
                let read = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line);
                if read.with_context(context).or_exit(Exit::Data)? == 0 {
                    break;
                }
                let Ok(text) = std::str::from_utf8(&line) else { continue };
                let id = text.find(ID_FIELD).and_then(|at| text.get(at + ID_FIELD.len()..)?.get(..32));
                if let Some(id) = id.and_then(RequestId::parse) {
                    line_of(id, text);
                }
            }
        }
        Ok(())
    }
}

fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

impl Kept {
    pub(crate) fn spans(&self) -> Vec<Placed<'_>> {
        let mut spans = Vec::new();
        for part in &self.export.resource_spans {
            let attributes = part.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let service = match find(attributes, "service.name").and_then(|value| value.value.as_ref()) {
                Some(Value::StringValue(name)) => name.as_str(),
                _ => "-",
            };
            let version = find(attributes, "service.version");
            let own = part.scope_spans.iter().flat_map(|scope| &scope.spans);
            // Each line holds one trace; should one hold more, only this one's.
            spans.extend(own.filter(|span| span.trace_id == self.id.0).map(|span| Placed { service, version, span }));
        }
        spans
    }
}

impl Placed<'_> {
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        find(&self.span.attributes, key).and_then(text)
    }

    pub(crate) fn failed(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
    }
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a AnyValue> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()
}

pub(crate) fn text(value: &AnyValue) -> Option<String> {
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::BoolValue(value) => Some(value.to_string()),
        Value::IntValue(value) => Some(value.to_string()),
        Value::DoubleValue(value) => Some(value.to_string()),
        _ => None,
    }
}

pub(crate) fn rfc3339(unix_nanos: u64) -> String {
    let millis = i128::from(unix_nanos / 1_000_000) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(millis).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default()
}
