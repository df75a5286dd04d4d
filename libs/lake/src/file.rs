//! One Parquet file: rows in, rows out.
//!
//! Always holds: a file appears under its name, which is made of its content's hash, when it is whole and durable.

use crate::error::LakeError;
use crate::row::{Row, Value, fits};
use crate::schema::{Column, Kind, Table};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
    Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader as _, RowGroupReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// Rows in memory before they are compressed; also what a reader holds.
const GROUP_ROWS: usize = 32_768;

/// Values of one leaf of the schema.
enum Values {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float(Vec<f32>),
    Bool(Vec<bool>),
    Bytes(Vec<ByteArray>),
    Fixed(Vec<FixedLenByteArray>),
}

struct Leaf {
    values: Values,
    /// Whether there are definition levels: a value may be missing, or a list be empty.
    defined: bool,
    repeated: bool,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl Leaf {
    fn new(column: &Column) -> Self {
        let values = match column.kind {
            Kind::U32 => Values::Int32(Vec::new()),
            Kind::U64 | Kind::I64 | Kind::Millis => Values::Int64(Vec::new()),
            Kind::F32 | Kind::Floats => Values::Float(Vec::new()),
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Text | Kind::Texts | Kind::Pairs => Values::Bytes(Vec::new()),
            Kind::Fixed(_) => Values::Fixed(Vec::new()),
        };
        let repeated = matches!(column.kind, Kind::Texts | Kind::Floats | Kind::Pairs);
        let defined = repeated || column.optional;
        Self { values, defined, repeated, definitions: Vec::new(), repetitions: Vec::new() }
    }

    fn clear(&mut self) {
        match &mut self.values {
            Values::Int32(v) => v.clear(),
            Values::Int64(v) => v.clear(),
            Values::Float(v) => v.clear(),
            Values::Bool(v) => v.clear(),
            Values::Bytes(v) => v.clear(),
            Values::Fixed(v) => v.clear(),
        }
        self.definitions.clear();
        self.repetitions.clear();
    }

    fn scalar(&mut self, value: Value) {
        match (&mut self.values, value) {
            (_, Value::Null) => {
                self.definitions.push(0);
                return;
            }
            // Unsigned numbers of 32 bits keep their bits.
            (Values::Int32(v), Value::Int(n)) => v.push(n as u32 as i32),
            (Values::Int64(v), Value::Int(n)) => v.push(n),
            (Values::Float(v), Value::Float(f)) => v.push(f),
            (Values::Bool(v), Value::Bool(b)) => v.push(b),
            (Values::Bytes(v), Value::Bytes(b)) => v.push(b.into()),
            (Values::Fixed(v), Value::Bytes(b)) => v.push(ByteArray::from(b).into()),
            // `fits` has seen to it that there is no other pair.
            _ => return,
        }
        self.definitions.push(1);
    }

    fn list<T>(&mut self, elements: impl IntoIterator<Item = T>, mut push: impl FnMut(&mut Values, T)) {
        let mut first = true;
        for element in elements {
            push(&mut self.values, element);
            self.definitions.push(1);
            self.repetitions.push(i16::from(!first));
            first = false;
        }
        if first {
            self.definitions.push(0);
            self.repetitions.push(0);
        }
    }
}

fn push_text(values: &mut Values, text: &str) {
    if let Values::Bytes(v) = values {
        v.push(text.into());
    }
}

fn push_float(values: &mut Values, float: f32) {
    if let Values::Float(v) = values {
        v.push(float);
    }
}

/// Writes through, and hashes and counts on the way.
struct Hashing {
    file: BufWriter<File>,
    hash: Xxh3,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file that is being written. Dropped before its end, it leaves nothing.
pub(crate) struct PartWriter {
    table: Table,
    columns: Vec<Column>,
    leaves: Vec<Leaf>,
    waiting: usize,
    rows: u64,
    folder: PathBuf,
    path: PathBuf,
    writer: Option<SerializedFileWriter<Hashing>>,
}

/// What a finished file is.
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) xxh3: String,
}

impl PartWriter {
    /// `number` tells writers of one process apart.
    pub(crate) fn create(table: Table, folder: &Path, number: u64) -> Result<Self, LakeError> {
        fs::create_dir_all(folder).map_err(LakeError::write(folder))?;
        let path = folder.join(format!(".writing-{number}"));
        let file = BufWriter::new(File::create(&path).map_err(LakeError::write(&path))?);
        let schema = Arc::new(parse_message_type(&table.message()).map_err(|e| LakeError::damaged(&path, e))?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(|e| LakeError::damaged(&path, e))?))
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_created_by("attune".to_owned())
            .build();
        let hashing = Hashing { file, hash: Xxh3::new(), bytes: 0 };
        let writer = SerializedFileWriter::new(hashing, schema, Arc::new(properties));
        let columns = table.columns();
        let leaves = columns
            .iter()
            .flat_map(|column| (0..if column.kind == Kind::Pairs { 2 } else { 1 }).map(|_| Leaf::new(column)))
            .collect();
        Ok(Self {
            table,
            columns,
            leaves,
            waiting: 0,
            rows: 0,
            folder: folder.to_owned(),
            writer: Some(writer.map_err(|e| LakeError::damaged(&path, e))?),
            path,
        })
    }

    pub(crate) fn push(&mut self, row: Row) -> Result<(), LakeError> {
        let bad = self.columns.iter().zip(&row).find(|(column, value)| !fits(column, value));
        if let Some((Column { name: column, .. }, _)) = bad {
            return Err(LakeError::Row { table: self.table, column });
        }
        if row.len() != self.columns.len() {
            return Err(LakeError::Row { table: self.table, column: "the number of columns" });
        }
        let mut leaves = self.leaves.iter_mut();
        let mut leaf = || leaves.next();
        for value in row {
            let Some(first) = leaf() else { break };
            match value {
                Value::Texts(texts) => first.list(texts, |values, text| push_text(values, &text)),
                Value::Floats(floats) => first.list(floats, push_float),
                Value::Pairs(pairs) => {
                    first.list(&pairs, |values, (name, _)| push_text(values, name));
                    if let Some(second) = leaf() {
                        second.list(&pairs, |values, (_, value)| push_text(values, value));
                    }
                }
                scalar => first.scalar(scalar),
            }
        }
        self.rows += 1;
        self.waiting += 1;
        if self.waiting == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    fn flush(&mut self) -> Result<(), LakeError> {
        let failed = |e: ParquetError| LakeError::Write(self.path.clone(), io::Error::other(e));
        let Some(writer) = self.writer.as_mut().filter(|_| self.waiting > 0) else { return Ok(()) };
        let mut group = writer.next_row_group().map_err(failed)?;
        for leaf in &self.leaves {
            let Some(mut column) = group.next_column().map_err(failed)? else { break };
            write_leaf(column.untyped(), leaf).map_err(failed)?;
            column.close().map_err(failed)?;
        }
        group.close().map_err(failed)?;
        self.leaves.iter_mut().for_each(Leaf::clear);
        self.waiting = 0;
        Ok(())
    }

    /// Makes the file durable and gives it its name.
    pub(crate) fn finish(mut self) -> Result<Written, LakeError> {
        self.flush()?;
        let failed = |e: ParquetError| LakeError::Write(self.path.clone(), io::Error::other(e));
        let Some(writer) = self.writer.take() else { return Err(LakeError::damaged(&self.path, "has no writer")) };
        let Hashing { file, hash, bytes } = writer.into_inner().map_err(failed)?;
        let file = file.into_inner().map_err(|e| LakeError::Write(self.path.clone(), e.into_error()))?;
        file.sync_all().map_err(LakeError::write(&self.path))?;
        let xxh3 = format!("{:016x}", hash.digest());
        let name = format!("part-{xxh3}.parquet");
        let place = self.folder.join(&name);
        fs::rename(&self.path, &place).map_err(LakeError::write(&place))?;
        sync_dir(&self.folder)?;
        Ok(Written { name, rows: self.rows, bytes, xxh3 })
    }
}

impl Drop for PartWriter {
    fn drop(&mut self) {
        if self.writer.is_some() {
            // The next export removes what could not be removed here.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn write_leaf(writer: &mut ColumnWriter<'_>, leaf: &Leaf) -> Result<(), ParquetError> {
    let (d, r) = (leaf.defined.then_some(&leaf.definitions[..]), leaf.repeated.then_some(&leaf.repetitions[..]));
    match (writer, &leaf.values) {
        (ColumnWriter::Int32ColumnWriter(w), Values::Int32(v)) => w.write_batch(v, d, r),
        (ColumnWriter::Int64ColumnWriter(w), Values::Int64(v)) => w.write_batch(v, d, r),
        (ColumnWriter::FloatColumnWriter(w), Values::Float(v)) => w.write_batch(v, d, r),
        (ColumnWriter::BoolColumnWriter(w), Values::Bool(v)) => w.write_batch(v, d, r),
        (ColumnWriter::ByteArrayColumnWriter(w), Values::Bytes(v)) => w.write_batch(v, d, r),
        (ColumnWriter::FixedLenByteArrayColumnWriter(w), Values::Fixed(v)) => w.write_batch(v, d, r),
        _ => return Err(ParquetError::General("a column is not of its type".to_owned())),
    }
    .map(drop)
}

pub(crate) fn sync_dir(dir: &Path) -> Result<(), LakeError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(LakeError::write(dir))
}

/// Hash of a file's content, as its name has it.
pub(crate) fn hash_of(path: &Path) -> Result<String, LakeError> {
    let mut hash = Xxh3::new();
    let mut file = File::open(path).map_err(LakeError::read(path))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(LakeError::read(path))? {
            0 => return Ok(format!("{:016x}", hash.digest())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// The rows of a file, a group at a time.
pub(crate) struct PartReader {
    path: PathBuf,
    columns: Vec<Column>,
    reader: SerializedFileReader<File>,
    next: usize,
}

impl PartReader {
    /// A file whose columns are not the table's is refused.
    pub(crate) fn open(table: Table, path: &Path) -> Result<Self, LakeError> {
        let file = File::open(path).map_err(LakeError::read(path))?;
        let reader = SerializedFileReader::new(file).map_err(|e| LakeError::damaged(path, e))?;
        let expected = parse_message_type(&table.message()).map_err(|e| LakeError::damaged(path, e))?;
        let found = reader.metadata().file_metadata().schema();
        for field in expected.get_fields() {
            if !found.get_fields().iter().any(|other| other == field) {
                return Err(LakeError::damaged(path, format!("column {} is missing or of another type", field.name())));
            }
        }
        if found.get_fields().len() != expected.get_fields().len() {
            return Err(LakeError::damaged(path, "has columns that this build does not know"));
        }
        Ok(Self { path: path.to_owned(), columns: table.columns(), reader, next: 0 })
    }

    /// The next rows; none at the end.
    pub(crate) fn group(&mut self) -> Result<Option<Vec<Row>>, LakeError> {
        if self.next >= self.reader.num_row_groups() {
            return Ok(None);
        }
        let damaged = |e: ParquetError| LakeError::damaged(&self.path, e);
        let group = self.reader.get_row_group(self.next).map_err(damaged)?;
        self.next += 1;
        let count = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        let mut rows: Vec<Row> = (0..count).map(|_| Vec::with_capacity(self.columns.len())).collect();
        let mut leaf = 0;
        for column in &self.columns {
            let values = read_column(&*group, &mut leaf, column, count).map_err(damaged)?;
            if values.len() != count {
                return Err(LakeError::damaged(&self.path, format!("column {} is cut short", column.name)));
            }
            rows.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
        }
        Ok(Some(rows))
    }
}

impl PartReader {
    pub(crate) fn any_row(mut self, is_it: impl Fn(&Row) -> bool) -> Result<bool, LakeError> {
        while let Some(rows) = self.group()? {
            if rows.iter().any(&is_it) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// One value a row.
fn read_column(
    group: &dyn RowGroupReader,
    leaf: &mut usize,
    column: &Column,
    count: usize,
) -> Result<Vec<Value>, ParquetError> {
    let mut next = || {
        *leaf += 1;
        group.get_column_reader(*leaf - 1)
    };
    let text = |bytes: ByteArray| Value::Bytes(bytes.data().to_vec());
    Ok(match column.kind {
        Kind::U32 => scalars::<Int32Type>(next()?, column, count, |n| Value::Int(i64::from(n as u32)))?,
        Kind::U64 | Kind::I64 | Kind::Millis => scalars::<Int64Type>(next()?, column, count, Value::Int)?,
        Kind::F32 => scalars::<FloatType>(next()?, column, count, Value::Float)?,
        Kind::Bool => scalars::<BoolType>(next()?, column, count, Value::Bool)?,
        Kind::Text => scalars::<ByteArrayType>(next()?, column, count, text)?,
        Kind::Fixed(_) => {
            scalars::<FixedLenByteArrayType>(next()?, column, count, |b| Value::Bytes(b.data().to_vec()))?
        }
        Kind::Texts => strings(next()?, count)?.into_iter().map(Value::Texts).collect(),
        Kind::Floats => lists::<FloatType>(next()?, count)?.into_iter().map(Value::Floats).collect(),
        Kind::Pairs => {
            let (names, values) = (strings(next()?, count)?, strings(next()?, count)?);
            names.into_iter().zip(values).map(|(n, v)| Value::Pairs(n.into_iter().zip(v).collect())).collect()
        }
    })
}

fn scalars<T: DataType>(
    reader: ColumnReader,
    column: &Column,
    count: usize,
    into: impl Fn(T::T) -> Value,
) -> Result<Vec<Value>, ParquetError> {
    let (mut values, mut definitions) = (Vec::with_capacity(count), Vec::new());
    get_typed_column_reader::<T>(reader).read_records(count, Some(&mut definitions), None, &mut values)?;
    let mut values = values.into_iter().map(into);
    if !column.optional {
        return Ok(values.collect());
    }
    Ok(definitions.iter().filter_map(|&d| if d == 0 { Some(Value::Null) } else { values.next() }).collect())
}

fn lists<T: DataType>(reader: ColumnReader, count: usize) -> Result<Vec<Vec<T::T>>, ParquetError> {
    let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
    get_typed_column_reader::<T>(reader).read_records(
        count,
        Some(&mut definitions),
        Some(&mut repetitions),
        &mut values,
    )?;
    let mut values = values.into_iter();
    let mut lists: Vec<Vec<T::T>> = Vec::with_capacity(count);
    for (&definition, &repetition) in definitions.iter().zip(&repetitions) {
        if repetition == 0 {
            lists.push(Vec::new());
        }
        if definition == 1
            && let (Some(list), Some(value)) = (lists.last_mut(), values.next())
        {
            list.push(value);
        }
    }
    Ok(lists)
}

fn strings(reader: ColumnReader, count: usize) -> Result<Vec<Vec<String>>, ParquetError> {
    let text = |bytes: &ByteArray| bytes.as_utf8().map(str::to_owned);
    lists::<ByteArrayType>(reader, count)?.iter().map(|list| list.iter().map(text).collect()).collect()
}
