//! Every place of a token stream, in the order of what stands before it.
//!
//! Holds: read backwards from a place, the tokens before it are its context; places whose last n
//! tokens agree lie side by side for every n at once, so one descent finds the matches of all
//! lengths (the reversed-context counterpart of a suffix array). A context ends at a file boundary.
//! Not here: what the tokens mean, which places may be used (`segment`).

use std::ops::Range;

use super::vocabulary::Word;

/// Places of one stream ordered by context, with where each last token starts.
#[derive(Debug, Default)]
pub(crate) struct ContextArray {
    places: Vec<u32>,
    starts: Starts,
}

/// Where the places of each last token start.
#[derive(Debug)]
enum Starts {
    /// For each token that occurs, in order.
    Listed(Vec<(Word, u32)>),
    /// For each number up to that of the last token, and the end.
    Indexed(Vec<u32>),
}

impl Default for Starts {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl ContextArray {
    /// Orders all places of `stream` but the first by up to `depth` tokens before them.
    ///
    /// O(n log n) comparisons of one machine word each; only ties look further back.
    pub(crate) fn new(stream: &[Word], depth: usize) -> Self {
        let n_words = stream
            .iter()
            .map(|word| word.index() + 1)
            .max()
            .unwrap_or(0);
        // Where the next place of each word goes; in the end, where its places end.
        let mut ends = vec![0_u32; n_words + 1];
        let contexts = &stream[..stream.len().saturating_sub(1)];
        for word in contexts {
            ends[word.index() + 1] += 1;
        }
        for at in 1..ends.len() {
            ends[at] += ends[at - 1];
        }
        let mut places = vec![0_u32; contexts.len()];
        for (at, word) in contexts.iter().enumerate() {
            let end = &mut ends[word.index()];
            places[*end as usize] = at as u32 + 1;
            *end += 1;
        }
        let mut listed = Vec::new();
        let mut keyed = Vec::new();
        let mut at = 0;
        while at < places.len() {
            let word = stream[places[at] as usize - 1];
            let end = ends[word.index()] as usize;
            listed.push((word, at as u32));
            sort_bucket(stream, depth, &mut places[at..end], &mut keyed);
            at = end;
        }
        let starts = if listed.len() * 2 > n_words {
            ends.insert(0, 0);
            ends.truncate(n_words + 1);
            ends.shrink_to_fit();
            Starts::Indexed(ends)
        } else {
            listed.shrink_to_fit();
            Starts::Listed(listed)
        };
        Self { places, starts }
    }

    pub(crate) fn places(&self, range: Range<u32>) -> &[u32] {
        &self.places[range.start as usize..range.end as usize]
    }

    pub(crate) fn in_order(&self) -> &[u32] {
        &self.places
    }

    /// Returns the places that directly follow `word`.
    pub(crate) fn after(&self, word: Word) -> Range<u32> {
        match &self.starts {
            Starts::Indexed(starts) => match starts.get(word.index()..word.index() + 2) {
                Some(&[start, end]) => start..end,
                _ => 0..0,
            },
            Starts::Listed(starts) => match starts.binary_search_by_key(&word, |start| start.0) {
                Ok(at) => {
                    let next = starts.get(at + 1);
                    starts[at].1..next.map_or(self.places.len() as u32, |next| next.1)
                }
                Err(_) => 0..0,
            },
        }
    }

    /// Collects, for n = 1, 2, …, the places whose last n tokens are those of `context`.
    ///
    /// Each range lies within the one before it. Stops at the first n without a match, at `depth`,
    /// and at a file boundary. `token(i)` is the stream's token at `i`.
    pub(crate) fn descend(
        &self,
        context: &[Word],
        depth: usize,
        token: impl Fn(usize) -> Word,
        ranges: &mut Vec<Range<u32>>,
    ) {
        ranges.clear();
        let mut latest_first = context.iter().rev().take(depth).copied().enumerate();
        let Some((_, last)) = latest_first.next() else {
            return;
        };
        let mut range = self.after(last);
        if range.is_empty() {
            return;
        }
        ranges.push(range.clone());
        for (back, wanted) in latest_first {
            if wanted == Word::BOUNDARY {
                return;
            }
            let key = |place: u32| {
                (place as usize)
                    .checked_sub(back + 1)
                    .map_or(Word::BOUNDARY, &token)
            };
            let within = self.places(range.clone());
            let start = within.partition_point(|place| key(*place) < wanted);
            let n = within[start..].partition_point(|place| key(*place) == wanted);
            if n == 0 {
                return;
            }
            range = range.start + start as u32..range.start + (start + n) as u32;
            ranges.push(range.clone());
        }
    }

    /// Returns the last tokens that occur, in order; `stream` is the one this was made of.
    pub(crate) fn words(&self, stream: &[Word]) -> Vec<Word> {
        let mut words = Vec::new();
        let mut at = 0;
        while let Some(place) = self.places.get(at) {
            let word = stream[*place as usize - 1];
            words.push(word);
            at = self.after(word).end as usize;
        }
        words
    }

    pub(crate) fn bytes(&self) -> usize {
        let starts = match &self.starts {
            Starts::Listed(starts) => starts.capacity() * 8,
            Starts::Indexed(starts) => starts.capacity() * 4,
        };
        self.places.capacity() * 4 + starts
    }
}

/// Orders places that share their last token by what stands before it.
fn sort_bucket(stream: &[Word], depth: usize, places: &mut [u32], keyed: &mut Vec<(u128, u32)>) {
    const IN_KEY: usize = 4;
    if places.len() < 2 {
        return;
    }
    keyed.clear();
    keyed.extend(places.iter().map(|place| {
        let end = (*place as usize).saturating_sub(1);
        let before = stream[end.saturating_sub(IN_KEY)..end].iter().rev();
        // Nothing before the start of the stream reads as a boundary, which is token 0.
        let padded = before.chain(std::iter::repeat(&Word::BOUNDARY));
        let key = padded
            .take(IN_KEY)
            .fold(0, |key, word| key << 32 | word.index() as u128);
        (key, *place)
    }));
    keyed.sort_unstable_by(|a, b| {
        a.0.cmp(&b.0)
            .then_with(|| deeper(stream, IN_KEY + 1, depth, a.1, b.1))
    });
    for (place, sorted) in places.iter_mut().zip(keyed.iter()) {
        *place = sorted.1;
    }
}

/// Compares two places whose last `known` tokens agree, by the tokens before those.
fn deeper(stream: &[Word], known: usize, depth: usize, a: u32, b: u32) -> std::cmp::Ordering {
    let before = |place: u32| {
        stream[..(place as usize).saturating_sub(known)]
            .iter()
            .rev()
    };
    for (x, y) in before(a).zip(before(b)).take(depth.saturating_sub(known)) {
        if x != y {
            return x.cmp(y);
        }
        if *x == Word::BOUNDARY {
            break;
        }
    }
    a.cmp(&b)
}

#[cfg(test)]
mod tests {
    use super::super::vocabulary::Vocabulary;
    use super::*;
    use proptest::prelude::*;

    fn stream_of(letters: &str) -> Vec<Word> {
        let mut vocabulary = Vocabulary::root();
        let mut stream = vec![Word::BOUNDARY];
        stream.extend(letters.chars().map(|c| match c {
            '.' => Word::BOUNDARY,
            c => vocabulary.intern(&c.to_string()),
        }));
        stream
    }

    proptest! {
        #[test]
        fn a_descent_finds_what_a_scan_finds(letters in "[abc.]{0,120}", cut in 0_usize..120, depth in 1_usize..12) {
            let stream = stream_of(&letters);
            let context = &stream[..cut.min(stream.len())];
            let array = ContextArray::new(&stream, 12);
            let mut ranges = Vec::new();
            array.descend(context, depth, |at| stream[at], &mut ranges);
            for n in 1..=depth {
                let wanted = &context[context.len().saturating_sub(n)..];
                let crosses = wanted.len() < n || wanted[..n - 1].contains(&Word::BOUNDARY);
                let scanned: Vec<u32> = (n..stream.len()).filter(|p| !crosses && &stream[p - n..*p] == wanted).map(|p| p as u32).collect();
                let mut found = ranges.get(n - 1).map_or(Vec::new(), |range| array.places(range.clone()).to_vec());
                found.sort_unstable();
                prop_assert_eq!(found, scanned, "length {}", n);
            }
        }
    }
}
