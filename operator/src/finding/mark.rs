//! Marks: which batches a finding's count already holds.

use zastava_crds::{finding::StoredMark, wire::report::BatchMark};

/// Marks on one finding at most, as the schema says.
pub(super) const MAX_MARKS: usize = 64;

/// What became of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// The count already holds this batch.
    Already,
    /// It is to be added, in the write that stores the marks.
    New {
        /// A mark that may still be needed had to go.
        approximate: bool,
    },
}

/// Notes that the count is about to hold `mark`. A batch confirms those before it of the same reporter, and
/// `confirmed` tells of other reporters' batches that will never come again.
pub(super) fn record(
    marks: &mut Vec<StoredMark>,
    mark: &BatchMark,
    confirmed: impl Fn(&StoredMark) -> bool,
) -> Recorded {
    if marks.iter().any(|m| m.reporter == mark.reporter && m.seq >= mark.seq) {
        return Recorded::Already;
    }
    // A reporter with a new journal will never repeat what was in the old one.
    marks.retain(|m| base(&m.reporter) != base(&mark.reporter) && !confirmed(m));
    let approximate = marks.len() >= MAX_MARKS;
    if approximate {
        marks.remove(0);
    }
    marks.push(mark.into());
    Recorded::New { approximate }
}

/// The reporter without its journal.
pub(super) fn base(reporter: &str) -> &str {
    reporter.split_once('/').map_or(reporter, |(base, _)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(reporter: &str, seq: u64) -> BatchMark {
        BatchMark { reporter: reporter.to_owned(), seq }
    }

    #[test]
    fn a_repeat_adds_nothing_and_a_later_batch_confirms() {
        let mut marks = Vec::new();
        let none = |_: &StoredMark| false;
        assert_eq!(record(&mut marks, &mark("node:a/1", 1), none), Recorded::New { approximate: false });
        assert_eq!(record(&mut marks, &mark("node:a/1", 1), none), Recorded::Already);
        assert_eq!(record(&mut marks, &mark("node:a/1", 4), none), Recorded::New { approximate: false });
        assert_eq!(record(&mut marks, &mark("node:a/1", 2), none), Recorded::Already);
        assert_eq!(marks.len(), 1);
        // A lost journal begins again at 1: it is another reporter, and the old one's mark goes.
        assert_eq!(record(&mut marks, &mark("node:a/2", 1), none), Recorded::New { approximate: false });
        assert_eq!(marks.len(), 1);
    }

    #[test]
    fn beyond_the_bound_confirmed_marks_go_first_then_the_count_is_approximate() {
        let mut marks = Vec::new();
        for n in 0..MAX_MARKS {
            record(&mut marks, &mark(&format!("node:{n}"), 1), |_| false);
        }
        let of_7 = |m: &StoredMark| m.reporter == "node:7";
        assert_eq!(record(&mut marks, &mark("node:x", 1), of_7), Recorded::New { approximate: false });
        assert_eq!(record(&mut marks, &mark("node:y", 1), of_7), Recorded::New { approximate: true });
        assert_eq!(marks.len(), MAX_MARKS);
        assert!(!marks.iter().any(|m| m.reporter == "node:0" || m.reporter == "node:7"));
    }
}
