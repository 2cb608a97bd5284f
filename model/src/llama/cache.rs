//! Keys and values that outlive a batch: what generated text attends to.
//!
//! Memory is handed out in tiles of sixteen positions. A run of tokens (a part of a prompt that several
//! sequences share, or what one sequence has generated) owns consecutive tiles, reserved for its greatest
//! length before it begins: a sequence that was let in never runs out of memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::attention::Heads;
use crate::lanes::LANES;

/// Positions of a tile.
pub(crate) const TILE: usize = LANES;

/// One layer's keys and values.
#[derive(Debug)]
pub(crate) struct KeyValues {
    /// Rotated keys, `[tiles, key-value heads, head size, 16]`.
    pub(crate) keys: Vec<f32>,
    /// Values, `[tiles * 16, key-value heads, padded head size]`.
    pub(crate) values: Vec<f32>,
}

/// One layer's cache, shared with the operation that fills it.
#[derive(Clone, Debug)]
pub(crate) struct Layer(Arc<RwLock<KeyValues>>);

impl Layer {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, KeyValues> {
        // A panic while it was held left numbers behind, nothing worse.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, KeyValues> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All layers' caches.
#[derive(Debug)]
pub(crate) struct Cache {
    layers: Vec<Layer>,
}

impl Cache {
    /// A cache of `tiles` tiles. Memory is taken as it is first written.
    pub(crate) fn new(heads: Heads, layers: usize, tiles: usize) -> Self {
        let keys = tiles * heads.key_values * heads.size * LANES;
        let values = tiles * LANES * heads.key_values * heads.padded();
        let layer = || {
            Layer(Arc::new(RwLock::new(KeyValues {
                keys: vec![0.0; keys],
                values: vec![0.0; values],
            })))
        };
        Self {
            layers: (0..layers).map(|_| layer()).collect(),
        }
    }

    /// Bytes of one tile in all layers.
    pub(crate) fn tile_bytes(heads: Heads, layers: usize) -> u64 {
        let row = heads.key_values * (heads.size + heads.padded());
        (row * LANES * layers * size_of::<f32>()) as u64
    }

    pub(crate) fn layer(&self, index: usize) -> Option<&Layer> {
        self.layers.get(index)
    }
}

/// Tiles that `positions` positions from `first` on lie in.
pub(crate) fn tiles(first: usize, positions: usize) -> usize {
    (first % TILE + positions).div_ceil(TILE)
}

/// Which tiles are free: gaps between what is taken, by their start.
#[derive(Debug)]
pub(crate) struct Tiles {
    gaps: BTreeMap<usize, usize>,
}

impl Tiles {
    /// All of `tiles` are free.
    pub(crate) fn new(tiles: usize) -> Self {
        let gaps = if tiles == 0 {
            BTreeMap::new()
        } else {
            BTreeMap::from([(0, tiles)])
        };
        Self { gaps }
    }

    /// Takes `tiles` consecutive tiles out of the first gap that is wide enough: the first one's number, or `None`
    /// when there is no such gap.
    pub(crate) fn take(&mut self, tiles: usize) -> Option<usize> {
        if tiles == 0 {
            return Some(0);
        }
        let (&first, &width) = self.gaps.iter().find(|(_, width)| **width >= tiles)?;
        self.gaps.remove(&first);
        if width > tiles {
            self.gaps.insert(first + tiles, width - tiles);
        }
        Some(first)
    }

    /// Gives them back.
    pub(crate) fn give_back(&mut self, mut first: usize, mut tiles: usize) {
        if tiles == 0 {
            return;
        }
        if let Some(width) = self.gaps.remove(&(first + tiles)) {
            tiles += width;
        }
        if let Some((&before, &width)) = self.gaps.range(..first).next_back()
            && before + width == first
        {
            first = before;
            tiles += width;
        }
        self.gaps.insert(first, tiles);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tiles_are_owned_once_and_come_back(requests in prop::collection::vec((0usize..9, 0usize..4), 1..60)) {
            const ALL: usize = 32;
            let mut free = Tiles::new(ALL);
            let mut owned: Vec<(usize, usize)> = Vec::new();
            for (tiles, age) in requests {
                if let Some(first) = free.take(tiles) {
                    for &(other, width) in &owned {
                        prop_assert!(tiles == 0 || width == 0 || first + tiles <= other || other + width <= first);
                    }
                    prop_assert!(first + tiles <= ALL);
                    owned.push((first, tiles));
                } else {
                    // Refused only where no gap is wide enough.
                    let mut used = [false; ALL];
                    owned.iter().for_each(|&(first, width)| used[first..first + width].fill(true));
                    prop_assert!(used.split(|used| *used).all(|gap| gap.len() < tiles));
                }
                if age < owned.len() {
                    let (first, tiles) = owned.remove(age);
                    free.give_back(first, tiles);
                }
            }
            for (first, tiles) in owned {
                free.give_back(first, tiles);
            }
            prop_assert_eq!(free.take(ALL), Some(0));
        }
    }
}
