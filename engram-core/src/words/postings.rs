//! In which texts a word occurs, and how often: three bytes a text, in blocks that are sorted by document.

/// How many postings a block may have: it is what a change in the middle moves.
const BLOCK_LEN_MAX: usize = 256;

/// Sorted by document, at most one posting a document.
#[derive(Debug, Default)]
pub(super) struct Postings {
    blocks: Vec<Block>,
    len: u32,
}

/// Never empty.
#[derive(Debug)]
pub(super) struct Block {
    /// A document that it has or had: no other is before it, and all have a distance from it.
    base: u32,
    /// The length of the shortest text that it had, and the most occurrences. With both, a text that is better than any
    /// in the block: what was removed may leave them better than they need be.
    length_min: u16,
    occurrences_max: u8,
    /// The distance from the base in two bytes, little-endian, and the occurrences: up to 255 count.
    entries: Vec<[u8; 3]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) doc: u32,
    pub(super) occurrences: u8,
}

impl Block {
    fn new(doc: u32, length: u16) -> Self {
        // Most words are rare.
        let entries = vec![[0, 0, 1]];
        Self { base: doc, length_min: length, occurrences_max: 1, entries }
    }

    fn posting(&self, [low, high, occurrences]: [u8; 3]) -> Posting {
        Posting { doc: self.base + u32::from(u16::from_le_bytes([low, high])), occurrences }
    }

    /// No document is before this one, and none of the block before is from it on.
    pub(super) fn base(&self) -> u32 {
        self.base
    }

    pub(super) fn last(&self) -> u32 {
        self.entries.last().map_or(self.base, |entry| self.posting(*entry).doc)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn length_min(&self) -> u16 {
        self.length_min
    }

    pub(super) fn occurrences_max(&self) -> u8 {
        self.occurrences_max
    }

    fn distance(&self, doc: u32) -> Option<u16> {
        doc.checked_sub(self.base).and_then(|distance| u16::try_from(distance).ok())
    }

    fn find(&self, distance: u16) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&distance, |[low, high, _]| u16::from_le_bytes([*low, *high]))
    }

    /// How often the word occurs in a document.
    pub(super) fn occurrences(&self, doc: u32) -> Option<u8> {
        let at = self.find(self.distance(doc)?).ok()?;
        Some(self.entries[at][2])
    }

    /// From this document on.
    pub(super) fn from(&self, doc: u32) -> impl Iterator<Item = Posting> {
        let start = match self.distance(doc) {
            Some(distance) => self.find(distance).unwrap_or_else(|at| at),
            None if doc < self.base => 0,
            None => self.entries.len(),
        };
        self.entries[start..].iter().map(|entry| self.posting(*entry))
    }
}

impl Postings {
    /// How many documents have the word.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Counts one occurrence in a document of this length.
    pub(super) fn add(&mut self, doc: u32, length: u16) {
        // New documents have the highest numbers, as long as none was removed.
        let at = match self.blocks.last() {
            Some(last) if last.base <= doc => self.blocks.len() - 1,
            _ => self.blocks.partition_point(|block| block.base <= doc).saturating_sub(1),
        };
        let Some(block) = self.blocks.get_mut(at) else {
            if self.blocks.is_empty() {
                self.blocks.reserve_exact(1);
            }
            self.blocks.push(Block::new(doc, length));
            self.len += 1;
            return;
        };
        let Some(distance) = block.distance(doc) else {
            // Before the first block, or too far from its base.
            let at = if doc < block.base { at } else { at + 1 };
            self.blocks.insert(at, Block::new(doc, length));
            self.len += 1;
            return;
        };
        let last = block.entries.last().map(|[low, high, _]| u16::from_le_bytes([*low, *high]));
        let found = match last {
            // A word of a new document, for the first time or once more.
            Some(last) if last < distance => Err(block.entries.len()),
            Some(last) if last == distance => Ok(block.entries.len() - 1),
            _ => block.find(distance),
        };
        match found {
            Ok(entry) => {
                let occurrences = &mut block.entries[entry][2];
                *occurrences = occurrences.saturating_add(1);
                block.occurrences_max = block.occurrences_max.max(*occurrences);
            }
            Err(entry) if block.entries.len() < BLOCK_LEN_MAX => {
                let [low, high] = distance.to_le_bytes();
                block.entries.insert(entry, [low, high, 1]);
                block.length_min = block.length_min.min(length);
                self.len += 1;
            }
            Err(entry) if entry == block.entries.len() => {
                self.blocks.insert(at + 1, Block::new(doc, length));
                self.len += 1;
            }
            Err(_) => {
                self.split(at);
                self.add(doc, length);
            }
        }
    }

    /// Makes two of a block.
    fn split(&mut self, at: usize) {
        let block = &mut self.blocks[at];
        let entries = block.entries.split_off(BLOCK_LEN_MAX / 2);
        let moved: Vec<Posting> = entries.iter().map(|entry| block.posting(*entry)).collect();
        let Some(base) = moved.first().map(|posting| posting.doc) else { return };
        let mut second = Block { base, entries, ..*block };
        for (entry, posting) in second.entries.iter_mut().zip(moved) {
            // What was near enough to the first base is nearer to this one.
            let [low, high, ..] = (posting.doc - base).to_le_bytes();
            *entry = [low, high, posting.occurrences];
        }
        self.blocks.insert(at + 1, second);
    }

    /// Takes a document out, if it is there.
    pub(super) fn remove(&mut self, doc: u32) {
        let Some(at) = self.blocks.partition_point(|block| block.base <= doc).checked_sub(1) else {
            return;
        };
        let block = &mut self.blocks[at];
        let Some(Ok(entry)) = block.distance(doc).map(|distance| block.find(distance)) else { return };
        block.entries.remove(entry);
        self.len -= 1;
        if block.entries.is_empty() {
            self.blocks.remove(at);
            if self.blocks.capacity() > 4 * self.blocks.len() {
                self.blocks.shrink_to(2 * self.blocks.len());
            }
        } else if block.entries.capacity() > 4 * block.entries.len() {
            block.entries.shrink_to(2 * block.entries.len());
        }
    }

    /// The bytes that it takes beside itself.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let entries: usize = self.blocks.iter().map(|block| 3 * block.entries.capacity()).sum();
        entries + self.blocks.capacity() * size_of::<Block>()
    }
}
