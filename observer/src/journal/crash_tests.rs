//! Ends of the process and of the disk that need a process or a disk of their own: the test runs itself again as a child.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use zastava_crds::wire::event::Severity;

use super::{
    Appended, JournalError, Limits,
    tests::{BOUND, READER, drain, id, number, open, stream},
};

const FOLDER: &str = "ZASTAVA_TEST_JOURNAL";

fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("journal::crash_tests::{test}"), "--nocapture", "--ignored"]);
    command.env(FOLDER, folder);
    command
}

fn big() -> Limits {
    Limits { total_bytes: 64 << 20, segment_bytes: 64 << 10, record_bytes: 4096, ..Limits::default() }
}

#[test]
#[ignore = "the child of killed_at_any_moment_what_was_appended_is_there_once"]
fn append_until_killed() {
    let (journal, _) = open(Path::new(&std::env::var_os(FOLDER).unwrap()), big());
    for n in 0.. {
        let outcome = journal.append(stream(Severity::High), id(n), &format!("{{\"n\":{n}}}"));
        assert!(matches!(outcome, Ok(Appended::Stored | Appended::Repeat)));
        // The line stands for the ring's advance: it is printed after the record is stored.
        println!("stored {n}");
        if n % 100 == 99 {
            let batch = journal.begin(READER, BOUND).unwrap().unwrap();
            let told = batch.payloads.iter().map(|p| number(p).to_string()).collect::<Vec<_>>().join(" ");
            println!("sent {} {told}", batch.seq);
            journal.acknowledge(READER, batch.seq).unwrap();
            println!("acknowledged {}", batch.seq);
        }
    }
}

#[test]
fn killed_at_any_moment_what_was_appended_is_there_once() {
    // Deterministic moments, spread over appends, batches and acknowledgements.
    for lines in [1, 2, 57, 99, 100, 101, 102, 103, 311, 312, 777, 2048, 5003] {
        let folder = TempDir::new().unwrap();
        let mut process = child("append_until_killed", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(process.stdout.take().unwrap());
        let (mut seen, mut line) = (Vec::new(), String::new());
        let mut killed = false;
        while reader.read_line(&mut line).unwrap() > 0 {
            if line.starts_with("stored") || line.starts_with("sent") || line.starts_with("acknowledged") {
                // The last line may be cut by the kill.
                if line.ends_with('\n') {
                    seen.push(line.trim_end().to_owned());
                }
            }
            line.clear();
            if seen.len() >= lines && !killed {
                process.kill().unwrap();
                killed = true;
            }
        }
        assert_eq!(process.wait().unwrap().signal(), Some(9));
        let stored = seen.iter().filter_map(|line| line.strip_prefix("stored ")).count();
        let mut told: BTreeSet<u64> = BTreeSet::new();
        let mut sent: Option<Vec<u64>> = None;
        let mut last_sent = 0;
        for line in &seen {
            if let Some(batch) = line.strip_prefix("sent ") {
                let mut words = batch.split(' ').map(|word| word.parse::<u64>().unwrap());
                last_sent = words.next().unwrap();
                sent = Some(words.collect());
            } else if line.starts_with("acknowledged ") {
                told.extend(sent.take().unwrap());
            }
        }
        let (journal, recovery) = open(folder.path(), big());
        assert!(!recovery.state_lost);
        let next = journal.begin(READER, BOUND).unwrap();
        if let (Some(sent), Some(next)) = (&sent, &next)
            && next.seq == last_sent
        {
            let again: Vec<u64> = next.payloads.iter().map(|p| number(p)).collect();
            assert_eq!(&again, sent, "another batch under the same mark");
        } else if let Some(sent) = sent {
            // Killed behind the acknowledgement and before its line.
            told.extend(sent);
        }
        let (rest, lost) = drain(&journal);
        assert_eq!(lost, 0, "killed after {lines} lines");
        let before = told.len();
        told.extend(&rest);
        assert_eq!(told.len(), before + rest.len(), "a record twice, killed after {lines} lines");
        assert!(told.len() >= stored, "killed after {lines} lines: {} of {stored}", told.len());
        assert!(told.iter().copied().eq(0..told.len() as u64), "a gap, killed after {lines} lines");
    }
}

#[test]
#[ignore = "the child of a_full_disk_costs_the_mildest_first_and_is_counted, on a disk of 1 MiB"]
fn fill_the_disk() {
    let folder = Path::new(&std::env::var_os(FOLDER).unwrap()).to_owned();
    let (journal, _) = open(&folder, big());
    let append = |severity, n| {
        let payload = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(1000));
        journal.append(stream(severity), id(n), &payload)
    };
    // The disk is full of low severity, and others take what is left of it.
    for n in 0..500 {
        append(Severity::Low, n).unwrap();
    }
    let mut filler = std::fs::File::create(folder.join("filler")).unwrap();
    let full = std::io::copy(&mut std::io::repeat(7), &mut filler).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    for n in 1000..2000 {
        append(Severity::High, n).unwrap();
    }
    // Now nothing milder than High is left.
    assert!(matches!(append(Severity::Low, 500), Err(JournalError::Full)));
    drop(journal);
    let (journal, _) = open(&folder, big());
    let (left, lost) = drain(&journal);
    assert!(left.iter().all(|&n| n >= 1000));
    assert_eq!(left.last(), Some(&1999));
    assert_eq!(left.len() as u64 + lost, 1501);
    println!("survived");
}

#[test]
fn a_full_disk_costs_the_mildest_first_and_is_counted() {
    let folder = TempDir::new().unwrap();
    let inner = child("fill_the_disk", folder.path());
    // A mount namespace of its own: the tiny disk is gone with the child, whatever happens.
    let mut outer = Command::new("unshare");
    outer.args(["--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs \"$0\" && exec \"$@\""]);
    outer.arg(folder.path()).arg(inner.get_program()).args(inner.get_args()).env(FOLDER, folder.path());
    let output = outer.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("survived"), "{told}{}", String::from_utf8_lossy(&output.stderr));
}
