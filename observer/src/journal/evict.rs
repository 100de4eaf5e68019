//! What leaves, and in which order: what every reader is done with, then the oldest of the lowest severity.

use jiff::Timestamp;
use zastava_crds::wire::event::LossReason;

use super::{
    JournalError, LossWindow, Stream,
    cursor::Extent,
    seen::KEPT,
    segment::Segment,
    store::{Book, now_ms},
};

/// Folder for segments with damage, kept for whoever wants to know why.
pub const ASIDE: &str = "damaged";
/// Segments in it at most.
const MAX_ASIDE: usize = 4;

impl Book {
    /// Counts a loss for every reader.
    pub fn lose(&mut self, reason: LossReason, window: LossWindow) {
        for cursor in self.state.cursors.values_mut() {
            cursor.lose(reason, window);
        }
    }

    /// Removes segments that every reader is done with. The last of each stream stay: their ids tell a repeat after a
    /// crash.
    pub fn drop_done(&mut self) {
        let mut gone = Vec::new();
        for (&stream, log) in &mut self.streams {
            let done = self.state.done_by_all(stream);
            let gone_by = done.min(log.next.saturating_sub(KEPT));
            while log.segments.len() > 1 && log.segments.front().is_some_and(|first| first.extent.end <= gone_by) {
                gone.extend(log.segments.pop_front());
            }
            if let Some(holes) = self.state.holes.get_mut(&stream) {
                holes.retain(|hole| hole.end > done);
            }
        }
        self.state.holes.retain(|_, holes| !holes.is_empty());
        for segment in gone {
            self.bytes -= segment.size;
            self.remove(&segment);
        }
    }

    fn remove(&mut self, segment: &Segment) {
        let removed = if segment.damaged { self.set_aside(segment) } else { std::fs::remove_file(&segment.path) };
        if let Err(error) = removed {
            tracing::error!(path = %segment.path.display(), %error, "a segment can't be removed");
        }
        self.folder_dirty = true;
    }

    /// Moves a damaged segment away; beyond the bound the oldest goes for good.
    pub fn set_aside(&self, segment: &Segment) -> std::io::Result<()> {
        let aside = self.folder.join(ASIDE);
        std::fs::create_dir_all(&aside)?;
        if let Some(name) = segment.path.file_name() {
            std::fs::rename(&segment.path, aside.join(name))?;
        }
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&aside)? {
            let entry = entry?;
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
        kept.sort();
        for (_, path) in kept.iter().take(kept.len().saturating_sub(MAX_ASIDE)) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Evicts the oldest segment of the lowest severity, never of a higher one than `stream` has.
    ///
    /// # Errors
    /// [`JournalError::Full`] if there is none.
    pub fn make_room(&mut self, stream: Stream) -> Result<(), JournalError> {
        if std::fs::remove_dir_all(self.folder.join(ASIDE)).is_ok() {
            return Ok(());
        }
        let milder = self.streams.range(..=stream).find_map(|(&candidate, log)| {
            let free = |segment: &Segment| !self.held(candidate, &segment.extent);
            log.segments.iter().position(free).map(|at| (candidate, at))
        });
        let Some((victim, at)) = milder else { return Err(JournalError::Full) };
        self.evict(victim, at);
        Ok(())
    }

    /// Evicts segments whose last record is older than the bound.
    pub fn expire(&mut self) {
        let bound = self.limits.age;
        let now = now_ms();
        let old = |segment: &Segment| match segment.touched {
            Some(touched) => touched.elapsed() > bound,
            None => u128::from(now.saturating_sub(segment.times.1)) > bound.as_millis(),
        };
        let streams: Vec<Stream> = self.streams.keys().copied().collect();
        for stream in streams {
            loop {
                let log = self.streams.get(&stream);
                let first = log.and_then(|log| log.segments.front());
                if !first.is_some_and(|first| old(first) && !self.held(stream, &first.extent)) {
                    break;
                }
                self.evict(stream, 0);
            }
        }
    }

    fn held(&self, stream: Stream, extent: &Extent) -> bool {
        self.state.cursors.values().any(|cursor| cursor.holds(stream, extent))
    }

    fn evict(&mut self, stream: Stream, at: usize) {
        let Some(segment) = self.streams.get_mut(&stream).and_then(|log| log.segments.remove(at)) else { return };
        self.evictions += 1;
        self.counts.evicted_segments += 1;
        self.bytes -= segment.size;
        let window = |count| LossWindow { count, from: time(segment.times.0), until: time(segment.times.1) };
        for cursor in self.state.cursors.values_mut() {
            let done = cursor.done(stream);
            let count = segment.extent.end.saturating_sub(segment.extent.start.max(done));
            cursor.evicted += count;
            cursor.lose(LossReason::JournalEvicted, window(count));
        }
        let holes = self.state.holes.entry(stream).or_default();
        match holes.last_mut() {
            Some(last) if last.end == segment.extent.start => last.end = segment.extent.end,
            _ => holes.push(segment.extent),
        }
        self.remove(&segment);
    }
}

fn time(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}
