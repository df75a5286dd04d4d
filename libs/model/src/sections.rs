//! Sections of a bundle as bytes: tensors in safetensors, lists in JSON.

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::BTreeMap;

/// Why a section could not be understood.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) String);

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<safetensors::SafeTensorError> for Malformed {
    fn from(error: safetensors::SafeTensorError) -> Self {
        Self(error.to_string())
    }
}

/// Tensors by name, in name order, so that the same content gives the same bytes.
#[derive(Default)]
pub(crate) struct Tensors(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub(crate) fn put(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.insert(name.to_owned(), (Dtype::F32, shape.to_vec(), bytes));
    }

    pub(crate) fn put_numbers(&mut self, name: &str, values: &[u32]) {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.0.insert(name.to_owned(), (Dtype::U32, vec![values.len()], bytes));
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut views = Vec::with_capacity(self.0.len());
        for (name, (dtype, shape, bytes)) in &self.0 {
            views.push((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?));
        }
        Ok(serialize(views, None)?)
    }
}

/// A decoded file of tensors.
pub(crate) struct Stored<'a>(SafeTensors<'a>);

impl<'a> Stored<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self(SafeTensors::deserialize(bytes)?))
    }

    fn words(&self, name: &str, dtype: Dtype) -> Result<Vec<[u8; 4]>, Malformed> {
        let view = self.0.tensor(name)?;
        if view.dtype() != dtype {
            return Err(Malformed(format!("tensor {name} is {:?}, expected {dtype:?}", view.dtype())));
        }
        Ok(view.data().as_chunks::<4>().0.to_vec())
    }

    /// A finite f32 tensor of exactly `len` values.
    pub(crate) fn take(&self, name: &str, len: usize) -> Result<Vec<f32>, Malformed> {
        let values: Vec<f32> = self.words(name, Dtype::F32)?.into_iter().map(f32::from_le_bytes).collect();
        if values.len() != len {
            return Err(Malformed(format!("tensor {name} has {} values, expected {len}", values.len())));
        }
        if !values.iter().all(|v| v.is_finite()) {
            return Err(Malformed(format!("tensor {name} has a value that is not finite")));
        }
        Ok(values)
    }

    pub(crate) fn take_numbers(&self, name: &str) -> Result<Vec<u32>, Malformed> {
        Ok(self.words(name, Dtype::U32)?.into_iter().map(u32::from_le_bytes).collect())
    }
}
