//! What a list must hold after a script of edits: element numbers in chunks, so that a million random
//! inserts take seconds.

/// Most elements of a chunk; one that reaches it is halved.
const CHUNK: usize = 4096;

/// A list of element numbers.
pub(crate) struct Model {
    chunks: Vec<Vec<u32>>,
    len: usize,
}

impl Model {
    /// The empty list.
    pub(crate) fn new() -> Self {
        Self {
            chunks: vec![Vec::with_capacity(CHUNK)],
            len: 0,
        }
    }

    /// Elements in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts `number` before the element at `at`, which may be one past the last.
    pub(crate) fn insert(&mut self, at: usize, number: u32) {
        let (chunk, place) = self.find(at);
        self.chunks[chunk].insert(place, number);
        self.len += 1;
        if self.chunks[chunk].len() == CHUNK {
            let mut right = Vec::with_capacity(CHUNK);
            right.extend(self.chunks[chunk].drain(CHUNK / 2..));
            self.chunks.insert(chunk + 1, right);
        }
    }

    /// Takes the element at `at` out and returns it.
    pub(crate) fn remove(&mut self, at: usize) -> u32 {
        let (mut chunk, mut place) = self.find(at);
        while place == self.chunks[chunk].len() {
            (chunk, place) = (chunk + 1, 0);
        }
        self.len -= 1;
        self.chunks[chunk].remove(place)
    }

    /// All elements in order.
    pub(crate) fn into_vec(self) -> Vec<u32> {
        self.chunks.concat()
    }

    /// The first chunk in which `at` is a place to insert.
    fn find(&self, at: usize) -> (usize, usize) {
        let mut place = at;
        for (chunk, elements) in self.chunks.iter().enumerate() {
            if place <= elements.len() {
                return (chunk, place);
            }
            place -= elements.len();
        }
        panic!("position {at} is outside of a list of {}", self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_what_a_plain_vector_holds() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut model, mut plain) = (Model::new(), Vec::new());
        for number in 0..30_000 {
            if number % 5 == 4 {
                let at = rng.usize(..plain.len());
                assert_eq!(model.remove(at), plain.remove(at));
            } else {
                let at = rng.usize(..=plain.len());
                model.insert(at, number);
                plain.insert(at, number);
            }
        }
        assert_eq!(model.len(), plain.len());
        assert_eq!(model.into_vec(), plain);
    }
}
