//! Taste clusters and the lists served when nothing better is at hand.

use crate::FIXED_COORDINATES;
use crate::sections::{Malformed, Stored, Tensors};
use attune_domain::ItemIx;

/// Items in a cluster's and in the global list.
pub(crate) const FAVOURITES: usize = 200;
/// Items in the static list.
pub(crate) const STATIC: usize = 100;

/// Centroids of user vectors and each cluster's favourites. The last cluster is reserved for visitors without events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cohorts {
    pub(crate) dim: usize,
    /// A row of `dim` per cluster; the latent part has length 1 except in the reserved cluster.
    pub(crate) centroids: Vec<f32>,
    /// Strongest first, up to 200 per cluster.
    pub(crate) favourites: Vec<Vec<ItemIx>>,
    pub(crate) global: Vec<ItemIx>,
}

impl Cohorts {
    /// Clusters, the reserved one included.
    pub fn clusters(&self) -> usize {
        self.favourites.len()
    }

    /// The cluster whose centroid has the greatest cosine with the vector; `clusters() - 1` for a visitor without
    /// events.
    pub fn assign(&self, user_vector: &[f32]) -> u16 {
        let new = self.clusters().saturating_sub(1);
        let latent = self.dim - FIXED_COORDINATES;
        if user_vector[latent] == 1.0 {
            return new as u16;
        }
        let mut best = (f32::NEG_INFINITY, new);
        for cluster in 0..new {
            let centroid = &self.centroids[cluster * self.dim..cluster * self.dim + latent];
            let dot = attune_inference::dot(&user_vector[..latent], centroid);
            if dot > best.0 {
                best = (dot, cluster);
            }
        }
        best.1 as u16
    }

    pub fn centroid(&self, cluster: u16) -> &[f32] {
        &self.centroids[cluster as usize * self.dim..(cluster as usize + 1) * self.dim]
    }

    /// Up to 200 items, strongest first; of the reserved cluster for a number out of range.
    pub fn favourites(&self, cluster: u16) -> &[ItemIx] {
        self.favourites.get(cluster as usize).or(self.favourites.last()).map_or(&[], Vec::as_slice)
    }

    /// Up to 200 items by popularity.
    pub fn global_favourites(&self) -> &[ItemIx] {
        &self.global
    }

    /// Up to 100 items, the last resort.
    pub fn static_list(&self) -> &[ItemIx] {
        &self.global[..self.global.len().min(STATIC)]
    }
}

impl Cohorts {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut tensors = Tensors::default();
        tensors.put("centroids", &[self.clusters(), self.dim], &self.centroids);
        let lengths: Vec<u32> = self.favourites.iter().map(|list| list.len() as u32).collect();
        let favourites: Vec<u32> = self.favourites.iter().flatten().map(|ix| ix.0).collect();
        let global: Vec<u32> = self.global.iter().map(|ix| ix.0).collect();
        tensors.put_numbers("lengths", &lengths);
        tensors.put_numbers("favourites", &favourites);
        tensors.put_numbers("global", &global);
        tensors.encode()
    }

    pub(crate) fn decode(bytes: &[u8], dim: usize, items: usize) -> Result<Self, Malformed> {
        let stored = Stored::decode(bytes)?;
        let list = |name: &str| -> Result<Vec<ItemIx>, Malformed> {
            let list: Vec<ItemIx> = stored.take_numbers(name)?.into_iter().map(ItemIx).collect();
            match list.iter().find(|ix| ix.index() >= items) {
                Some(ix) => Err(Malformed(format!("list {name} names item {} of {items}", ix.0))),
                None => Ok(list),
            }
        };
        let lengths = stored.take_numbers("lengths")?;
        let all = list("favourites")?;
        if lengths.iter().map(|&n| n as usize).sum::<usize>() != all.len() || lengths.is_empty() {
            return Err(Malformed("the lists' lengths do not add up".into()));
        }
        let mut rest = all.as_slice();
        let mut favourites = Vec::with_capacity(lengths.len());
        for n in lengths {
            let (own, tail) = rest.split_at(n as usize);
            favourites.push(own.to_vec());
            rest = tail;
        }
        Ok(Self {
            dim,
            centroids: stored.take("centroids", favourites.len() * dim)?,
            favourites,
            global: list("global")?,
        })
    }
}
