//! Bytes that are not what was written: cut off, flipped, or gone. What is read is right or counted, and `verify` says so
//! if and only if the journal did.

use std::{collections::BTreeSet, fs, path::Path};

use tempfile::TempDir;
use zastava_crds::wire::event::{LossReason, Severity};

use super::{
    Journal, Limits, Recovery,
    cursor::LossKey,
    dice::{Dice, seeds},
    inspect::{inspect, show},
    slots,
    tests::{BOUND, READER, memory, number, numbers, open, put, small},
};

/// A journal with an acknowledged part, a batch on its way and an open end.
struct Sample {
    folder: TempDir,
    acknowledged: Vec<u64>,
    on_its_way: (u64, Vec<u64>),
    remaining: BTreeSet<u64>,
}

fn sample() -> Sample {
    let folder = TempDir::new_in(memory()).unwrap();
    let (journal, _) = open(folder.path(), small());
    for n in 0..4 {
        put(&journal, Severity::High, n).unwrap();
    }
    let done = journal.begin(READER, BOUND).unwrap().unwrap();
    journal.acknowledge(READER, done.seq).unwrap();
    for n in 4..7 {
        put(&journal, Severity::High, n).unwrap();
        put(&journal, Severity::Low, n + 100).unwrap();
    }
    let next = journal.begin(READER, BOUND).unwrap().unwrap();
    put(&journal, Severity::High, 7).unwrap();
    journal.sync().unwrap();
    Sample {
        folder,
        acknowledged: numbers(&done),
        on_its_way: (next.seq, numbers(&next)),
        remaining: BTreeSet::from([4, 5, 6, 104, 105, 106, 7]),
    }
}

fn files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// What a journal gave away, and how much it said to be lost or damaged.
#[derive(Debug)]
struct Opened {
    records: Vec<u64>,
    first: Option<(u64, Vec<u64>)>,
    corrupt: u64,
    recovery: Recovery,
    name: String,
}

/// Opens a copy of `from` in which the file `name` holds `bytes`, or is not there, and has it read to its end.
fn opened(from: &Path, name: &str, bytes: Option<&[u8]>) -> Opened {
    let copy = TempDir::new_in(memory()).unwrap();
    for other in files(from).into_iter().filter(|other| other != name) {
        fs::copy(from.join(&other), copy.path().join(other)).unwrap();
    }
    if let Some(bytes) = bytes {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    let said = bytes.map(|_| {
        let said = inspect(copy.path()).unwrap();
        let mut lines = Vec::new();
        let damages = show(copy.path(), &mut lines).unwrap();
        assert_eq!(String::from_utf8(lines).unwrap().lines().count() as u64, said.records, "show and verify differ");
        assert_eq!(damages, said.damages + said.torn, "show and verify differ");
        said
    });
    let (journal, recovery) = open(copy.path(), small());
    let mut opened = Opened { records: Vec::new(), first: None, corrupt: 0, recovery, name: journal.name() };
    while let Some(batch) = journal.begin(READER, BOUND).unwrap() {
        for payload in &batch.payloads {
            assert!(payload.ends_with(&format!("{}\"}}", "x".repeat(100))), "not what was appended: {payload}");
            opened.records.push(number(payload));
        }
        opened.first.get_or_insert((batch.seq, numbers(&batch)));
        opened.corrupt += batch.losses.get(&LossKey(LossReason::JournalCorrupt)).map_or(0, |window| window.count);
        journal.acknowledge(READER, batch.seq).unwrap();
    }
    let unique: BTreeSet<u64> = opened.records.iter().copied().collect();
    assert_eq!(unique.len(), opened.records.len(), "a record twice");
    if let Some(said) = said {
        let harmed = recovery.damages > 0 || recovery.torn > 0 || recovery.state_lost || opened.corrupt > 0;
        assert_eq!(said.sound(), !harmed, "verify says {said:?}, the journal {opened:?}");
        assert_eq!((said.records, said.damages, said.torn), (recovery.records, recovery.damages, recovery.torn));
        if !recovery.state_lost {
            assert_eq!(said.missing, opened.corrupt);
        }
    }
    opened
}

/// Where a file has anything in it, and a little of what is behind.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 16).min(bytes.len())
}

#[test]
fn a_segment_cut_at_any_byte_or_gone_costs_only_what_it_held() {
    let sample = sample();
    let from = sample.folder.path();
    for name in files(from).into_iter().filter(|name| name != slots::FILE) {
        let whole = fs::read(from.join(&name)).unwrap();
        let cuts = (0..=used(&whole)).map(|cut| Some(&whole[..cut]));
        for bytes in cuts.chain([None]) {
            let at = format!("{name} cut at {:?}", bytes.map(<[u8]>::len));
            let opened = opened(from, &name, bytes);
            assert!(opened.records.iter().all(|n| sample.remaining.contains(n)), "{at}: a record from nowhere");
            assert_eq!(opened.records.len() as u64 + opened.corrupt, 7, "{at}: synced records vanished uncounted");
        }
    }
}

#[test]
fn the_cursors_cut_at_any_byte_lose_nothing() {
    let sample = sample();
    let from = sample.folder.path();
    let whole = fs::read(from.join(slots::FILE)).unwrap();
    for cut in (0..whole.len()).step_by(61) {
        let opened = opened(from, slots::FILE, Some(&whole[..cut]));
        assert!(sample.remaining.iter().all(|n| opened.records.contains(n)), "cut at {cut}");
        let all = |n: &u64| sample.remaining.contains(n) || sample.acknowledged.contains(n);
        assert!(opened.records.iter().all(all), "cut at {cut}");
    }
}

#[test]
fn any_flipped_byte_of_a_segment_is_harmless_or_counted() {
    let sample = sample();
    let from = sample.folder.path();
    for seed in seeds(1) {
        let mut dice = Dice::new(seed);
        for name in files(from).into_iter().filter(|name| name != slots::FILE) {
            let whole = fs::read(from.join(&name)).unwrap();
            for at in 0..used(&whole) {
                let mut flipped = whole.clone();
                flipped[at] ^= u8::try_from(1 + dice.below(255)).unwrap();
                let opened = opened(from, &name, Some(&flipped));
                let told = format!("seed {seed}, {name} byte {at} is {}: {opened:?}", flipped[at]);
                assert!(opened.records.iter().all(|n| sample.remaining.contains(n)), "a record from nowhere: {told}");
                assert_eq!(opened.records.len() as u64 + opened.corrupt, 7, "{told}");
                assert!(opened.corrupt <= 1, "more than the record that was hit: {told}");
            }
        }
    }
}

#[test]
fn any_flipped_byte_of_the_cursors_changes_nothing() {
    let sample = sample();
    let from = sample.folder.path();
    let whole = fs::read(from.join(slots::FILE)).unwrap();
    let name = inspect(from).unwrap().journal.unwrap();
    for seed in seeds(1) {
        let mut dice = Dice::new(seed);
        let written = (0..whole.len()).filter(|&at| whole[at] != 0 || dice.once_in(500)).collect::<Vec<_>>();
        for at in written {
            let mut flipped = whole.clone();
            flipped[at] ^= u8::try_from(1 + dice.below(255)).unwrap();
            let opened = opened(from, slots::FILE, Some(&flipped));
            let told = format!("seed {seed}, byte {at}: {opened:?}");
            assert_eq!(opened.first.as_ref(), Some(&sample.on_its_way), "another batch under the same mark: {told}");
            assert_eq!(opened.records.iter().copied().collect::<BTreeSet<_>>(), sample.remaining, "{told}");
            assert_eq!((opened.corrupt, opened.name.as_str(), opened.recovery.state_lost), (0, name.as_str(), false));
        }
    }
}

#[test]
fn damage_is_set_aside_when_its_segment_leaves() {
    let sample = sample();
    let from = sample.folder.path();
    let name = files(from).into_iter().find(|name| name.starts_with("High")).unwrap();
    let mut bytes = fs::read(from.join(&name)).unwrap();
    bytes[100] ^= 1;
    fs::write(from.join(&name), bytes).unwrap();
    let (journal, _) = open(from, Limits { total_bytes: 1 << 20, ..small() });
    let read = |journal: &Journal| {
        while let Some(batch) = journal.begin(READER, BOUND).unwrap() {
            journal.acknowledge(READER, batch.seq).unwrap();
        }
    };
    read(&journal);
    for n in 1000..1300 {
        put(&journal, Severity::High, n).unwrap();
        read(&journal);
    }
    assert_eq!(inspect(from).unwrap().set_aside, 1);
    assert!(!files(from).contains(&name));
}
