//! An input as a list of edits of a real log, so that it gets behind the checksums.

use crate::Files;

/// An edit's length in an input, in bytes.
const EDIT_LEN: usize = 8;
const SECTOR: usize = 512;
const HEADER: usize = 64;
const FILE_BYTES_MAX: usize = 64 << 10;

/// What the first byte of an input asks for.
#[derive(Debug, Clone, Copy)]
pub struct Edits {
    /// Whether the log was stopped, not killed.
    pub clean: bool,
    /// Whether headers get new checksums, so that what is in them is believed. Without it the edits are what rot and
    /// bad disks do, and no checksum comes out right but by an accident of 1 in 2^32.
    pub forged: bool,
    /// Whether a snapshot was taken in the middle of the log.
    pub snapshot: bool,
}

impl Edits {
    /// Reads the first byte.
    pub fn of(input: &[u8]) -> Self {
        let first = input.first().copied().unwrap_or(0);
        Self { clean: first & 1 != 0, forged: first & 2 != 0, snapshot: first & 4 != 0 }
    }
}

/// Does to `files` what the input says.
pub fn edit(files: &mut Files, input: &[u8]) {
    let edits = Edits::of(input);
    for one in input.get(1..).unwrap_or(&[]).chunks_exact(EDIT_LEN) {
        apply(files, edits.forged, one);
    }
    if edits.forged {
        files.values_mut().for_each(|bytes| renew_checksums(bytes));
    }
}

fn apply(files: &mut Files, forged: bool, one: &[u8]) {
    let names: Vec<String> = files.keys().cloned().collect();
    let Some(name) = names.get(usize::from(one[1]) % names.len().max(1)) else { return };
    let Some(bytes) = files.get_mut(name) else { return };
    let at = usize::from(u16::from_le_bytes([one[2], one[3]])) % (bytes.len() + 1);
    let (value, len) = (u32::from_le_bytes([one[4], one[5], one[6], one[7]]), usize::from(one[4]) + 1);
    let end = (at + len).min(bytes.len());
    match one[0] % if forged { 10 } else { 8 } {
        0 => bytes[at..end.min(at + 1)].iter_mut().for_each(|byte| *byte ^= one[5] | 1),
        1 => bytes[at..end].fill(0),
        // Not the input's own bytes: a fuzzer could work out a checksum.
        2 => (at..end).for_each(|i| bytes[i] = (value.wrapping_mul(i as u32 | 1) >> 13) as u8),
        3 => bytes.truncate(at),
        4 => {
            // A sector lands where another one belongs.
            let (from, to) = (at / SECTOR * SECTOR, usize::from(one[5]) * SECTOR);
            let sector = bytes[from..(from + SECTOR).min(bytes.len())].to_vec();
            if to + sector.len() <= bytes.len() {
                bytes[to..to + sector.len()].copy_from_slice(&sector);
            }
        }
        5 => drop(files.remove(name)),
        6 => {
            let copy = bytes.clone();
            files.insert(format!("wal-{:020}.log", value % 8), copy);
        }
        7 => bytes.resize((bytes.len() + (value as usize % 4096)).min(FILE_BYTES_MAX), 0),
        number => {
            // A field of a header, by its place in the table of the format.
            let field = at / HEADER * HEADER + usize::from(one[7] % 16) * 4;
            let wide = if number == 8 { u64::from(value) } else { u64::MAX - u64::from(value) };
            let end = (field + if one[7] & 16 == 0 { 4 } else { 8 }).min(bytes.len());
            if field < end {
                bytes[field..end].copy_from_slice(&wide.to_le_bytes()[..end - field]);
            }
        }
    }
}

/// Makes what stands in headers pass its checksum. Those of payloads stay.
fn renew_checksums(bytes: &mut [u8]) {
    let renew = |block: &mut [u8]| {
        let at = block.len() - 4;
        let crc = crc32c::crc32c(&block[..at]);
        block[at..].copy_from_slice(&crc.to_le_bytes());
    };
    if let Some(sector) = bytes.get_mut(..SECTOR) {
        renew(sector);
    }
    let last = bytes.len().saturating_sub(SECTOR);
    if let Some(sector) = bytes.get_mut(last..).filter(|sector| sector.starts_with(b"ENGRMSNP")) {
        renew(sector);
    }
    for block in bytes.chunks_exact_mut(HEADER).skip(SECTOR / HEADER) {
        if block.starts_with(b"eRec") {
            renew(block);
        }
    }
}
