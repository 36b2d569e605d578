//! Which small CARs may hold a block, by eight bytes of its address: 17 bytes of memory for a place in the
//! table, and none of the index itself, which is read through the bounded cache. Whoever asks looks into
//! the index of each CAR that is named, so blocks whose addresses begin alike do no harm.

use super::cache::HashAddresses;
use super::car_ref::CarId;
use super::cars::OpenCar;
use crate::block::Cid;
use std::collections::HashMap;
use std::sync::Arc;

/// The CARs in it, and who names which.
#[derive(Debug, Default)]
pub(super) struct Table {
    cars: Vec<Option<Arc<OpenCar>>>,
    free: Vec<u32>,
    first: HashMap<u64, u32, HashAddresses>,
    /// Further CARs that hold a block of the same beginning: mostly the same block.
    more: HashMap<u64, Vec<u32>, HashAddresses>,
}

fn beginning(cid: &Cid) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&cid.digest()[..8]);
    u64::from_le_bytes(bytes)
}

impl Table {
    /// Takes in a CAR with the blocks that it holds.
    pub(super) fn add(&mut self, car: Arc<OpenCar>, blocks: impl Iterator<Item = Cid>) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.cars[slot as usize] = Some(car);
                slot
            }
            None => {
                self.cars.push(Some(car));
                (self.cars.len() - 1) as u32
            }
        };
        for block in blocks {
            let key = beginning(&block);
            match self.first.get(&key) {
                None => drop(self.first.insert(key, slot)),
                Some(named) if *named == slot => {}
                Some(_) => {
                    let more = self.more.entry(key).or_default();
                    if more.last() != Some(&slot) {
                        more.push(slot);
                    }
                }
            }
        }
    }

    /// The CARs that may hold a block.
    pub(super) fn holders(&self, cid: &Cid) -> Vec<Arc<OpenCar>> {
        let key = beginning(cid);
        let Some(first) = self.first.get(&key) else {
            return Vec::new();
        };
        let more = self.more.get(&key).into_iter().flatten();
        let slots = std::iter::once(first).chain(more);
        slots
            .filter_map(|slot| self.cars[*slot as usize].clone())
            .collect()
    }

    /// Takes CARs out, and gives memory back when much of it is free.
    pub(super) fn remove(&mut self, gone: impl Fn(&CarId) -> bool) {
        let mut freed = Vec::new();
        for (slot, car) in self.cars.iter_mut().enumerate() {
            if car.as_ref().is_some_and(|car| gone(&car.id)) {
                *car = None;
                freed.push(slot as u32);
            }
        }
        if freed.is_empty() {
            return;
        }
        let cars = &self.cars;
        let stays = |slot: &u32| cars[*slot as usize].is_some();
        self.more.retain(|_, slots| {
            slots.retain(stays);
            !slots.is_empty()
        });
        let more = &mut self.more;
        self.first.retain(|key, slot| {
            if stays(slot) {
                return true;
            }
            let Some(others) = more.get_mut(key) else {
                return false;
            };
            match others.pop() {
                Some(other) => *slot = other,
                None => return false,
            }
            true
        });
        self.more.retain(|_, slots| !slots.is_empty());
        self.free.append(&mut freed);
        if self.first.capacity() > 4 * self.first.len() {
            self.first.shrink_to(2 * self.first.len());
            self.more.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::car_ref::{CarMeta, Location};
    use super::*;
    use crate::block::Codec;

    fn car(n: u8) -> Arc<OpenCar> {
        let meta = CarMeta {
            bytes: 100,
            blocks: 3,
            index_offset: 80,
            sealed: false,
            level: 0,
            run: 1,
            location: Location::File,
        };
        Arc::new(OpenCar::new(Cid::of(Codec::CAR, &[n]), meta))
    }

    /// Blocks 0 to 99 have addresses of their own, those from 100 on all begin alike.
    fn block(n: u8) -> Cid {
        let mut digest = *Cid::of(Codec::RAW, &[n]).digest();
        if n >= 100 {
            digest[..8].fill(7);
        }
        Cid::from_digest(Codec::RAW, digest)
    }

    #[test]
    fn it_names_every_car_that_holds_a_block_whatever_comes_and_goes() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut table = Table::default();
        let mut model: HashMap<u8, Vec<u8>> = HashMap::new();
        let ids: Vec<CarId> = (0..40).map(|n| car(n).id).collect();
        let addresses: Vec<Cid> = (0..110).map(block).collect();
        for round in 0..150 {
            let n = random.u8(..40);
            if model.remove(&n).is_some() {
                table.remove(|id| *id == ids[usize::from(n)]);
            } else {
                let blocks: Vec<u8> = (0..random.usize(..20)).map(|_| random.u8(..110)).collect();
                table.add(car(n), blocks.iter().map(|n| block(*n)));
                model.insert(n, blocks);
            }
            for n in 0..110_u8 {
                let named: Vec<CarId> = table
                    .holders(&addresses[usize::from(n)])
                    .iter()
                    .map(|c| c.id)
                    .collect();
                for (number, blocks) in &model {
                    let holds = blocks.contains(&n);
                    assert!(
                        !holds || named.contains(&ids[usize::from(*number)]),
                        "round {round}"
                    );
                    // And no more, but for addresses that begin alike.
                    assert!(holds || n >= 100 || !named.contains(&ids[usize::from(*number)]));
                }
                assert!(
                    named
                        .iter()
                        .all(|id| model.keys().any(|n| ids[usize::from(*n)] == *id))
                );
            }
        }
        table.remove(|_| true);
        assert!(table.first.is_empty() && table.more.is_empty());
    }
}
