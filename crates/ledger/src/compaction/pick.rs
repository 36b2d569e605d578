//! Which CARs are compacted by themselves: those of commits once there are many, and like-sized
//! outputs together, so that each byte is rewritten a logarithmic number of times.

use crate::options::Options;
use crate::store::{CarId, CarMeta, Segment};
use std::collections::BTreeSet;

/// What to compact next, and the level of its output.
pub(crate) fn pick(
    live: &[Segment<CarId, CarMeta>],
    options: &Options,
) -> Option<(Vec<Segment<CarId, CarMeta>>, u8)> {
    let from = options.compact_from?.max(2);
    let highest = live.iter().map(|car| car.meta.level).max()?;
    for level in 0..=highest {
        let on_level = live.iter().filter(|car| car.meta.level == level);
        let enough = match level {
            0 => on_level.clone().count() >= from,
            _ => {
                let runs: BTreeSet<u64> = on_level.clone().map(|car| car.meta.run).collect();
                runs.len() >= options.compact_fan_in.max(2)
            }
        };
        if enough {
            return Some((on_level.cloned().collect(), level.saturating_add(1)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Cid, Codec};
    use crate::store::Location;

    fn car(n: u64, level: u8, run: u64) -> Segment<CarId, CarMeta> {
        Segment {
            id: Cid::of(Codec::CAR, &n.to_le_bytes()),
            meta: CarMeta {
                bytes: 1000 << (3 * level),
                blocks: 1,
                index_offset: 0,
                sealed: false,
                level,
                run,
                location: Location::File,
            },
        }
    }

    #[test]
    fn each_byte_is_rewritten_a_logarithmic_number_of_times() {
        let options = Options::default();
        let (mut live, mut next, mut rewritten, mut written) = (Vec::new(), 0, 0, 0);
        for _ in 0..100_000 {
            next += 1;
            live.push(car(next, 0, next));
            live.last_mut().unwrap().meta.bytes = 1000;
            written += 1000;
            while let Some((captured, level)) = pick(&live, &options) {
                let bytes: u64 = captured.iter().map(|car| car.meta.bytes).sum();
                rewritten += bytes;
                live.retain(|car| !captured.contains(car));
                next += 1;
                let mut output = car(next, level, next);
                output.meta.bytes = bytes;
                live.push(output);
            }
            assert!(live.len() < 100 + 8 * 8);
        }
        // log8(100,000 / 100) is 3.3.
        assert!(rewritten < 5 * written, "{rewritten} of {written}");
    }
}
