//! The bytes of the file: a header of 64, and a body. All numbers are little-endian.

use engram_storage::Lsn;

use crate::embedding::Precision;
use crate::index::{IndexMode, RecallTarget};
use crate::vector::chunk::stride;
use crate::vector::clusters::Sample;
use crate::vector::graph::{Links, NONE};
use crate::vector::partition::{DEPTHS, Reach, Tuned};

const MAGIC: [u8; 8] = *b"ENGRMIDX";

const VERSION: u32 = 2;

pub(super) const HEADER_LEN: usize = 64;

/// What the index was made for.
pub(super) struct Tag {
    pub(super) log_id: u64,
    pub(super) dimension: usize,
    pub(super) precision: Precision,
    pub(super) mode: IndexMode,
    pub(super) target: RecallTarget,
}

/// An index without the vectors.
pub(super) struct Index {
    /// What signs are relative to.
    pub(super) mean: Vec<f32>,
    pub(super) middles: Sample,
    pub(super) tuned: Tuned<Reach>,
    pub(super) rows: Vec<Known>,
    /// Of the rows above, by their places there.
    pub(super) graph: Option<Links>,
}

/// A row that is in a list, and in the graph if there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) lsn: u64,
    /// CRC32C of the codes of its vector.
    pub(super) crc: u32,
    pub(super) list: u32,
}

pub(super) fn encode(tag: &Tag, index: &Index) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    let numbers = |bytes: &mut Vec<u8>, numbers: &[f32]| {
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    };
    let words = |bytes: &mut Vec<u8>, words: &[u32]| {
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    };
    numbers(&mut bytes, &index.mean);
    for cluster in 0..index.middles.len() {
        let (codes, inverse_norm) = index.middles.get(cluster);
        bytes.extend(codes[..tag.dimension].iter().map(|code| code.cast_unsigned()));
        numbers(&mut bytes, &[inverse_norm]);
    }
    for reach in index.tuned {
        words(&mut bytes, &[word_of(reach.map(|reach| reach.probes))]);
        numbers(&mut bytes, &[reach.map_or(0.0, |reach| reach.margin)]);
    }
    for Known { lsn, crc, list } in &index.rows {
        bytes.extend(lsn.to_le_bytes());
        words(&mut bytes, &[*crc, *list]);
    }
    if let Some(graph) = &index.graph {
        words(&mut bytes, &graph.tuned.map(word_of));
        words(&mut bytes, &[graph.entry]);
        words(&mut bytes, &graph.words);
    }
    let covered = index.rows.iter().map(|row| row.lsn).max().unwrap_or(0);
    let body = &bytes[HEADER_LEN..];
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&word(tag.dimension).to_le_bytes());
    header[16..18].copy_from_slice(&[form(tag.precision), mode(tag.mode)]);
    header[18] = u8::from(index.graph.is_some());
    header[20..24].copy_from_slice(&tag.target.get().to_le_bytes());
    header[24..32].copy_from_slice(&tag.log_id.to_le_bytes());
    header[32..40].copy_from_slice(&covered.to_le_bytes());
    header[40..48].copy_from_slice(&(body.len() as u64).to_le_bytes());
    header[48..52].copy_from_slice(&word(index.middles.len()).to_le_bytes());
    header[52..56].copy_from_slice(&word(index.rows.len()).to_le_bytes());
    header[56..60].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    bytes[..HEADER_LEN].copy_from_slice(&header);
    bytes
}

/// What is in the file, if it is whole and of this log up to `recovered`, and was made for the same; or why not.
pub(super) fn decode(bytes: &[u8], tag: &Tag, recovered: Lsn) -> Result<Index, String> {
    let (header, body) =
        bytes.split_first_chunk::<HEADER_LEN>().ok_or("it is shorter than its header".to_owned())?;
    let mut fields = Reader(&header[8..]);
    if header[..8] != MAGIC || crc32c::crc32c(&header[..60]).to_le_bytes() != header[60..] {
        return Err("its header is damaged".to_owned());
    }
    if fields.word()? != VERSION {
        return Err("it is of another version".to_owned());
    }
    let (dimension, kinds, target) = (fields.word()?, fields.take(4)?, fields.word()?);
    let (log_id, covered, len) = (fields.long()?, fields.long()?, fields.long()?);
    let (clusters, rows, crc) = (fields.word()? as usize, fields.word()? as usize, fields.word()?);
    if log_id != tag.log_id {
        return Err("it is of another log".to_owned());
    }
    if dimension != word(tag.dimension)
        || (kinds[0], kinds[1]) != (form(tag.precision), mode(tag.mode))
        || target != tag.target.get().to_bits()
    {
        return Err("it was made with other settings".to_owned());
    }
    if covered > recovered.get() {
        return Err(format!("it covers record {covered}, and the log ends at {recovered}"));
    }
    if len != body.len() as u64 || crc32c::crc32c(body) != crc {
        return Err("it is damaged".to_owned());
    }
    let mut body = Reader(body);
    let index = body.index(tag.dimension, clusters, rows, kinds[2] == 1)?;
    if !body.0.is_empty() || index.rows.iter().any(|row| row.lsn > covered) {
        return Err(CONTRADICTION.to_owned());
    }
    Ok(index)
}

const CONTRADICTION: &str = "it contradicts itself";

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn index(
        &mut self,
        dimension: usize,
        clusters: usize,
        rows: usize,
        has_graph: bool,
    ) -> Result<Index, String> {
        let mean = (0..dimension).map(|_| self.number()).collect::<Result<_, _>>()?;
        let mut middles = Sample::new(dimension);
        for _ in 0..clusters {
            let mut codes: Vec<i8> = self.take(dimension)?.iter().map(|code| code.cast_signed()).collect();
            codes.resize(stride::<i8>(dimension), 0);
            middles.push(&codes, self.number()?);
        }
        let mut tuned = [None; DEPTHS.len()];
        for reach in &mut tuned {
            let (probes, margin) = (self.word()?, self.number()?);
            *reach = (probes != NONE).then_some(Reach { margin, probes: probes as usize });
        }
        let mut known = Vec::new();
        for _ in 0..rows {
            let row = Known { lsn: self.long()?, crc: self.word()?, list: self.word()? };
            if row.list as usize >= clusters {
                return Err(CONTRADICTION.to_owned());
            }
            known.push(row);
        }
        let graph = if has_graph {
            let (tuned, entry) = (self.tuned()?, self.word()?);
            let words = self.take(self.0.len() / 4 * 4)?.as_chunks::<4>().0;
            let words = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
            let links = Links { tuned, entry, words };
            if !links.are_sound(rows) {
                return Err(CONTRADICTION.to_owned());
            }
            Some(links)
        } else {
            None
        };
        Ok(Index { mean, middles, tuned, rows: known, graph })
    }

    fn tuned(&mut self) -> Result<Tuned, String> {
        let mut tuned = [None; DEPTHS.len()];
        for tuned in &mut tuned {
            let word = self.word()?;
            *tuned = (word != NONE).then_some(word as usize);
        }
        Ok(tuned)
    }

    fn number(&mut self) -> Result<f32, String> {
        let number = f32::from_bits(self.word()?);
        if number.is_finite() { Ok(number) } else { Err(CONTRADICTION.to_owned()) }
    }

    fn word(&mut self) -> Result<u32, String> {
        let bytes = self.take(4)?.first_chunk().copied();
        bytes.map(u32::from_le_bytes).ok_or_else(|| CONTRADICTION.to_owned())
    }

    fn long(&mut self) -> Result<u64, String> {
        let (low, high) = (self.word()?, self.word()?);
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(|| CONTRADICTION.to_owned())?;
        self.0 = rest;
        Ok(taken)
    }
}

fn word_of(number: Option<usize>) -> u32 {
    number.map_or(NONE, word)
}

/// Numbers of clusters and rows, and what is smaller, fit.
fn word(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}

const fn form(precision: Precision) -> u8 {
    match precision {
        Precision::Int8 => 1,
        Precision::F32 => 2,
    }
}

const fn mode(mode: IndexMode) -> u8 {
    match mode {
        IndexMode::Auto => 1,
        IndexMode::Scan => 2,
        IndexMode::Ivf => 3,
        IndexMode::Hnsw => 4,
    }
}
