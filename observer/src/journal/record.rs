//! The form of a record, and how records are found again in bytes that may be damaged.
//!
//! ```text
//! 0 magic 4 · 4 CRC32C of bytes 8.. 4 · 8 payload length 4 · 12 zero 4 · 16 seq 8 · 24 ms since 1970 8 · 32 id 16 · 48 payload · zeros to 8
//! ```

/// Id of the event in a record, for telling a repeat after a crash.
pub type RecordId = [u8; 16];

// 0xFF and 0xFE occur in no UTF-8 text, so no payload can pose as a record when a damaged segment is searched.
const MAGIC: [u8; 4] = [0xFF, b'Z', 0xFE, b'1'];
const HEADER: usize = 48;
/// Records begin at multiples of this.
pub const ALIGN: usize = 8;

/// A record as it lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Number in its stream, rising by one.
    pub seq: u64,
    /// When it was appended, in milliseconds since 1970.
    pub at_ms: u64,
    /// Id of the event.
    pub id: RecordId,
    /// The event as it will be sent.
    pub payload: &'a str,
}

impl Record<'_> {
    /// Bytes that a payload of `len` bytes takes in a segment.
    pub fn size(len: usize) -> usize {
        (HEADER + len).next_multiple_of(ALIGN)
    }

    /// Replaces `buf` by the record's bytes.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        buf.clear();
        buf.extend_from_slice(&MAGIC);
        buf.extend_from_slice(&[0; 4]);
        // Callers hold the bound of 64 KiB, so the length always fits.
        buf.extend_from_slice(&u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        buf.extend_from_slice(&[0; 4]);
        buf.extend_from_slice(&self.seq.to_le_bytes());
        buf.extend_from_slice(&self.at_ms.to_le_bytes());
        buf.extend_from_slice(&self.id);
        buf.extend_from_slice(self.payload.as_bytes());
        let crc = crc32c::crc32c(&buf[8..]);
        buf[4..8].copy_from_slice(&crc.to_le_bytes());
        buf.resize(Self::size(self.payload.len()), 0);
    }
}

/// The record that begins at byte 0, if a whole and undamaged one does.
fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let header = bytes.get(..HEADER)?;
    if header[..4] != MAGIC {
        return None;
    }
    let len = u32::from_le_bytes(header[8..12].try_into().ok()?) as usize;
    let body = bytes.get(8..HEADER.checked_add(len)?)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(header[4..8].try_into().ok()?) {
        return None;
    }
    Some(Record {
        seq: u64::from_le_bytes(header[16..24].try_into().ok()?),
        at_ms: u64::from_le_bytes(header[24..32].try_into().ok()?),
        id: header[32..48].try_into().ok()?,
        payload: std::str::from_utf8(&bytes[HEADER..HEADER + len]).ok()?,
    })
}

/// What lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// An undamaged record, and the byte behind it.
    Record(Record<'a>, usize),
    /// Bytes that belong to no undamaged record, with undamaged records behind them.
    Damage,
    /// The same with nothing behind them: a write that was cut short, or the last record damaged.
    Torn,
}

/// Walks the records of a segment whose records are numbered from `next`.
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    next: u64,
}

impl<'a> Scan<'a> {
    /// From the first byte of a segment.
    pub fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { bytes, at: 0, next: base }
    }

    fn decode_at(&self, at: usize) -> Option<Record<'a>> {
        decode(self.bytes.get(at..)?).filter(|record| record.seq >= self.next)
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        if let Some(record) = self.decode_at(self.at) {
            self.at += Record::size(record.payload.len());
            self.next = record.seq.saturating_add(1);
            return Some(Found::Record(record, self.at.min(self.bytes.len())));
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        // After a power loss a page of zeros may lie before pages that did reach the disk, so zeros alone are not the end.
        let behind = (ALIGN..rest.len()).step_by(ALIGN).find(|&ahead| self.decode_at(self.at + ahead).is_some());
        if let Some(ahead) = behind {
            self.at += ahead;
            return Some(Found::Damage);
        }
        self.at = self.bytes.len();
        rest.iter().any(|&byte| byte != 0).then_some(Found::Torn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Vec<u8>, Vec<String>) {
        let payloads: Vec<String> = ["{\"a\":1}", "", "{\"long\":\"xxxxxxxxxxxxxxxx\"}"].map(str::to_owned).into();
        let (mut bytes, mut buf) = (Vec::new(), Vec::new());
        for (seq, payload) in (7..).zip(&payloads) {
            Record { seq, at_ms: 1000 + seq, id: [9; 16], payload }.encode(&mut buf);
            bytes.extend_from_slice(&buf);
        }
        bytes.resize(bytes.len() + 512, 0);
        (bytes, payloads)
    }

    fn records(bytes: &[u8]) -> Vec<(u64, &str)> {
        let found = Scan::new(bytes, 7).filter_map(|found| match found {
            Found::Record(record, _) => Some((record.seq, record.payload)),
            Found::Damage | Found::Torn => None,
        });
        found.collect()
    }

    #[test]
    fn what_was_written_is_read_and_zeros_are_the_end() {
        let (bytes, payloads) = three();
        let expected: Vec<_> = (7..).zip(payloads.iter().map(String::as_str)).collect();
        assert_eq!(records(&bytes), expected);
        assert!(!Scan::new(&bytes, 7).any(|found| matches!(found, Found::Damage | Found::Torn)));
    }

    #[test]
    fn a_flipped_bit_costs_one_record_at_most_and_is_never_read_as_another() {
        let (bytes, _) = three();
        let whole = records(&bytes).into_iter().map(|(seq, text)| (seq, text.to_owned())).collect::<Vec<_>>();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let seen = records(&flipped);
            assert!(seen.iter().all(|(seq, text)| whole.contains(&(*seq, (*text).to_owned()))), "bit {bit}");
            assert!(seen.len() + 1 >= whole.len(), "bit {bit} cost more than its record");
            if seen.len() < whole.len() {
                assert!(
                    Scan::new(&flipped, 7).any(|f| matches!(f, Found::Damage | Found::Torn)),
                    "bit {bit} unnoticed"
                );
            }
        }
    }

    #[test]
    fn a_page_of_zeros_in_the_middle_hides_nothing_behind_it() {
        let (mut bytes, _) = three();
        let first = Record::size(7);
        bytes[first..first + Record::size(0)].fill(0);
        assert_eq!(records(&bytes).iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [7, 9]);
        assert!(Scan::new(&bytes, 7).any(|found| found == Found::Damage));
    }
}
