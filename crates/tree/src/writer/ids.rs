//! Ids for elements of keyed arrays that have none.

/// Where ids for elements without one come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    /// Rises from commit to commit.
    commit: u64,
    /// The next one's place in its commit.
    place: u64,
}

impl Ids {
    pub(crate) fn new(commit: u64) -> Self {
        Self { commit, place: 0 }
    }

    /// Ids sort by commit and then by place: each number as the letter of its length in hexadecimal
    /// digits, and the digits.
    pub(super) fn next(&mut self) -> String {
        let place = self.place;
        self.place += 1;
        sortable(self.commit) + &sortable(place)
    }
}

/// A number as text that sorts as numbers do.
fn sortable(number: u64) -> String {
    let digits = format!("{number:x}");
    let letter = char::from(b'a' + (digits.len() - 1) as u8);
    format!("{letter}{digits}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn s27_ids_sort_by_commit_and_then_by_place() {
        let mut ids = Ids::new(1);
        assert_eq!(ids.next(), "a1a0");
        assert_eq!(ids.next(), "a1a1");
        assert_eq!(
            Ids {
                commit: 256,
                place: 5
            }
            .next(),
            "c100a5"
        );
        let commits = [1, 2, 9, 15, 16, 17, 255, 256, 4096, 1_000_000, u64::MAX];
        let mut all = Vec::new();
        for commit in commits {
            let mut ids = Ids::new(commit);
            all.extend((0..300).map(|_| ids.next()));
        }
        assert!(all.is_sorted());
        let unique: BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
    }
}
