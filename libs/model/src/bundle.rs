//! The bundle: one immutable model with everything that serving it needs, and its folder on disk.
//!
//! A bundle's folder holds `manifest.json`, `manifest.hash` and one file per section. It is written aside and renamed,
//! so a folder either is a whole bundle or does not exist.

use crate::cohorts::Cohorts;
use crate::content::{ContentSection, Vocabulary};
use crate::histogram::Histograms;
use crate::items::ItemSection;
use crate::manifest::{EdgeScorer, FORMAT, Manifest, Section};
use crate::ranker::RankerSection;
use crate::schema::Presence;
use crate::sections::Malformed;
use crate::tower::{TowerSection, UserInput};
use attune_domain::{Item, ModelVersion, UserAttributes};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read {path}", path = .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write {path}", path = .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("the manifest is damaged: {0}")]
    Manifest(String),
    #[error("bundle format {0} is not known to this build, which reads {FORMAT}")]
    Format(u32),
    #[error("section {0} is damaged: its bytes do not have the hash the manifest names")]
    Damaged(String),
    #[error("section {section} cannot be used: {reason}")]
    Malformed { section: &'static str, reason: String },
}

const MANIFEST: &str = "manifest.json";
const MANIFEST_HASH: &str = "manifest.hash";
/// Sections and their files, in loading order.
const SECTIONS: [(&str, &str); 7] = [
    ("vocabulary", "vocabulary.json"),
    ("items", "items.safetensors"),
    ("tower", "tower.safetensors"),
    ("content", "content.safetensors"),
    ("ranker", "ranker.safetensors"),
    ("cohorts", "cohorts.safetensors"),
    ("histograms", "histograms.json"),
];

/// An immutable model, shared as `Arc<Bundle>`.
#[derive(Debug)]
pub struct Bundle {
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    version: ModelVersion,
    pub(crate) items: ItemSection,
    pub(crate) tower: TowerSection,
    pub(crate) content: ContentSection,
    pub(crate) ranker: RankerSection,
    pub(crate) cohorts: Cohorts,
    pub(crate) histograms: Histograms,
}

/// What a bundle is made of, before it has a version.
pub(crate) struct Parts {
    pub(crate) items: ItemSection,
    pub(crate) tower: TowerSection,
    pub(crate) content: ContentSection,
    pub(crate) ranker: RankerSection,
    pub(crate) cohorts: Cohorts,
    pub(crate) histograms: Histograms,
}

impl Bundle {
    /// Gives the parts their version. The manifest's sections are filled in here.
    pub(crate) fn assemble(mut manifest: Manifest, parts: Parts) -> Result<Self, BundleError> {
        let Parts { items, tower, content, ranker, cohorts, histograms } = parts;
        let mut bundle = Self {
            manifest: manifest.clone(),
            manifest_bytes: Vec::new(),
            version: ModelVersion("".into()),
            items,
            tower,
            content,
            ranker,
            cohorts,
            histograms,
        };
        manifest.sections = BTreeMap::new();
        for (name, _) in SECTIONS {
            let bytes = bundle.encode(name)?;
            let section = Section { hash: blake3::hash(&bytes).to_hex().to_string(), bytes: bytes.len() as u64 };
            manifest.sections.insert(name.to_owned(), section);
        }
        bundle.manifest_bytes =
            serde_json::to_vec_pretty(&manifest).map_err(|error| BundleError::Manifest(error.to_string()))?;
        bundle.version = version_of(&bundle.manifest_bytes);
        bundle.manifest = manifest;
        Ok(bundle)
    }

    /// Reads a folder and checks every section's hash.
    pub fn load(dir: &Path) -> Result<Self, BundleError> {
        let files = Files::read(dir)?;
        match files.damaged.first() {
            Some(section) => Err(BundleError::Damaged(section.clone())),
            None => Ok(Self::decode(files)?.0),
        }
    }

    /// Reads a folder although sections are damaged, and names those: for finding out which stage of a decision a
    /// damage changes. Fails where a section cannot be understood at all.
    pub fn load_unchecked_sections(dir: &Path) -> Result<(Self, Vec<String>), BundleError> {
        Self::decode(Files::read(dir)?)
    }

    fn decode(files: Files) -> Result<(Self, Vec<String>), BundleError> {
        let Files { manifest, manifest_bytes, sections, damaged } = files;
        let bytes = |name: &str| sections.get(name).map_or(&[][..], Vec::as_slice);
        let (n, dim) = (manifest.trained_items, manifest.dim);
        let latent = dim - crate::FIXED_COORDINATES;
        let values = manifest.schema.attribute_columns().map(|(_, values)| values.len()).sum();
        let vocabulary: Vocabulary = part("vocabulary", serde_json::from_slice(bytes("vocabulary")))?;
        let bundle = Self {
            version: version_of(&manifest_bytes),
            items: part("items", ItemSection::decode(bytes("items"), n, dim))?,
            tower: part("tower", TowerSection::decode(bytes("tower"), latent, values))?,
            content: part("content", ContentSection::decode(vocabulary, bytes("content"), dim))?,
            ranker: part("ranker", RankerSection::decode(bytes("ranker"), &manifest))?,
            cohorts: part("cohorts", Cohorts::decode(bytes("cohorts"), dim, n))?,
            histograms: part("histograms", serde_json::from_slice(bytes("histograms")))?,
            manifest,
            manifest_bytes,
        };
        Ok((bundle, damaged))
    }

    /// Writes the folder. One that already holds this very bundle is left as it is.
    pub fn save(&self, dir: &Path) -> Result<(), BundleError> {
        if dir.exists() && Self::load(dir).is_ok_and(|there| there.version == self.version) {
            return Ok(());
        }
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|e| BundleError::Write(parent.into(), e))?;
        let name = dir.file_name().map_or_else(|| "bundle".into(), |n| n.to_string_lossy().into_owned());
        let aside = parent.join(format!(".{name}.{}.partial", self.version));
        let cleared = fs::remove_dir_all(&aside);
        if let Err(e) = cleared
            && e.kind() != io::ErrorKind::NotFound
        {
            return Err(BundleError::Write(aside, e));
        }
        fs::create_dir(&aside).map_err(|e| BundleError::Write(aside.clone(), e))?;
        for (name, file) in SECTIONS {
            write(&aside.join(file), &self.encode(name)?)?;
        }
        write(&aside.join(MANIFEST), &self.manifest_bytes)?;
        write(&aside.join(MANIFEST_HASH), blake3::hash(&self.manifest_bytes).to_hex().as_bytes())?;
        let renamed = sync(&aside).and_then(|()| fs::rename(&aside, dir)).and_then(|()| sync(parent));
        renamed.map_err(|e| {
            // What is left aside is worthless; the error that matters is the rename's.
            let _ = fs::remove_dir_all(&aside);
            BundleError::Write(dir.into(), e)
        })
    }

    fn encode(&self, section: &'static str) -> Result<Vec<u8>, BundleError> {
        let dim = self.manifest.dim;
        match section {
            "vocabulary" => part(section, serde_json::to_vec(&self.content.vocabulary)),
            "items" => part(section, self.items.encode(dim)),
            "tower" => part(section, self.tower.encode(dim - crate::FIXED_COORDINATES)),
            "content" => part(section, self.content.encode(dim)),
            "ranker" => part(section, self.ranker.encode()),
            "cohorts" => part(section, self.cohorts.encode()),
            _ => part(section, serde_json::to_vec(&self.histograms)),
        }
    }

    /// First 16 hexadecimal digits of the manifest's hash.
    pub fn version(&self) -> &ModelVersion {
        &self.version
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Coordinates of user and item vectors. The item's bias is one of them; its user side is 1.
    pub fn dim(&self) -> usize {
        self.manifest.dim
    }

    /// Items with rows of their own: the first so many of the catalogue.
    pub fn trained_items(&self) -> usize {
        self.manifest.trained_items
    }

    /// [`catalogue_hash`] of the trained items.
    pub fn catalogue_hash(&self) -> &str {
        &self.manifest.catalogue_hash
    }

    /// Whether a catalogue begins with the items the bundle was trained with.
    pub fn fits(&self, items: &[Item]) -> bool {
        items.get(..self.trained_items()).is_some_and(|items| catalogue_hash(items) == self.manifest.catalogue_hash)
    }

    pub fn cohorts(&self) -> &Cohorts {
        &self.cohorts
    }

    pub fn edge(&self) -> EdgeScorer {
        self.manifest.edge
    }

    /// Distributions of the ranker's features in training, but for the page's context: no hour is distributed as all are.
    pub fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    /// How the models read each user attribute of the schema: its value's place in the column, 0 where it is missing, and
    /// none for a value that training did not see.
    pub fn attribute_values<'a>(
        &'a self,
        attributes: &'a UserAttributes,
    ) -> impl Iterator<Item = (&'a str, Option<usize>)> {
        self.manifest.schema.attribute_values(attributes)
    }

    /// Whether each column of the schema is there in an input.
    pub fn feature_presence<'a>(&'a self, input: &UserInput) -> Vec<(&'a str, Presence)> {
        self.manifest.schema.presence(input)
    }
}

/// A bundle's folder in memory.
struct Files {
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    sections: BTreeMap<&'static str, Vec<u8>>,
    /// Those whose bytes do not have the hash they should.
    damaged: Vec<String>,
}

impl Files {
    fn read(dir: &Path) -> Result<Self, BundleError> {
        let manifest_bytes = read(&dir.join(MANIFEST))?;
        let expected = read(&dir.join(MANIFEST_HASH))?;
        let mut damaged = Vec::new();
        if expected.trim_ascii() != blake3::hash(&manifest_bytes).to_hex().as_bytes() {
            damaged.push("manifest".to_owned());
        }
        let manifest: Manifest =
            serde_json::from_slice(&manifest_bytes).map_err(|error| BundleError::Manifest(error.to_string()))?;
        check(&manifest)?;
        let mut sections = BTreeMap::new();
        for (name, file) in SECTIONS {
            let bytes = read(&dir.join(file))?;
            let hash = blake3::hash(&bytes).to_hex();
            if manifest.sections.get(name).is_none_or(|section| section.hash != hash.as_str()) {
                damaged.push(name.to_owned());
            }
            sections.insert(name, bytes);
        }
        Ok(Self { manifest, manifest_bytes, sections, damaged })
    }
}

/// Hash over the items' ids in order.
pub(crate) fn catalogue_hash(items: &[Item]) -> String {
    let mut hasher = blake3::Hasher::new();
    for item in items {
        hasher.update(&(item.id.as_str().len() as u32).to_le_bytes());
        hasher.update(item.id.as_str().as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn version_of(manifest_bytes: &[u8]) -> ModelVersion {
    ModelVersion(blake3::hash(manifest_bytes).to_hex()[..16].into())
}

/// Bounds what a manifest may claim, so that sizes computed from it cannot overflow.
fn check(manifest: &Manifest) -> Result<(), BundleError> {
    if manifest.format != FORMAT {
        return Err(BundleError::Format(manifest.format));
    }
    if !(8..=4096).contains(&manifest.dim) {
        return Err(BundleError::Manifest(format!("dim {} is not between 8 and 4096", manifest.dim)));
    }
    if manifest.trained_items >= u32::MAX as usize {
        return Err(BundleError::Manifest(format!("trained_items {} is too large", manifest.trained_items)));
    }
    if manifest.schema.attribute_columns().any(|(_, values)| values.is_empty()) {
        return Err(BundleError::Manifest("an attribute column has no values".into()));
    }
    Ok(())
}

fn part<T, E: Into<Malformed>>(section: &'static str, result: Result<T, E>) -> Result<T, BundleError> {
    result.map_err(|error| BundleError::Malformed { section, reason: error.into().0 })
}

fn read(path: &Path) -> Result<Vec<u8>, BundleError> {
    fs::read(path).map_err(|error| BundleError::Read(path.into(), error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| BundleError::Write(path.into(), error))
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
