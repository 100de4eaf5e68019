//! What leaves, and in which order: what every reader is done with, then the oldest of the lowest severity.

use jiff::Timestamp;
use zastava_crds::wire::event::LossReason;

use super::{
    JournalError, LossWindow, Stream, cursor::Extent, disk::Change, seen::KEPT, segment::Segment, store::Book,
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
        for (&stream, log) in &self.streams {
            let done = self.state.done_by_all(stream);
            let gone_by = done.min(log.next.saturating_sub(KEPT));
            let last = log.segments.len().saturating_sub(1);
            let count = log.segments.iter().take(last).take_while(|first| first.extent.end <= gone_by).count();
            gone.extend((count > 0).then_some((stream, count)));
            if let Some(holes) = self.state.holes.get_mut(&stream) {
                holes.retain(|hole| hole.end > done);
            }
        }
        self.state.holes.retain(|_, holes| !holes.is_empty());
        // Were power lost with the segments gone and the cursor not moved, they would be missed and told as lost.
        if gone.is_empty() || !self.settle() {
            return;
        }
        for (stream, count) in gone {
            let Some(log) = self.streams.get_mut(&stream) else { continue };
            for segment in log.segments.drain(..count).collect::<Vec<_>>() {
                self.bytes -= segment.size;
                self.remove(&segment);
            }
        }
    }

    /// Makes the state durable before files that it no longer needs are removed.
    fn settle(&mut self) -> bool {
        let settled = self.persist(true);
        if let Err(error) = &settled {
            tracing::error!(%error, category = error.category(), "the journal's state can't be written");
        }
        settled.is_ok()
    }

    fn remove(&mut self, segment: &Segment) {
        if let Err(error) = self.discard(segment) {
            tracing::error!(path = %segment.path.display(), %error, "a segment can't be removed");
        }
        self.folder_dirty = true;
    }

    /// Removes a segment's file, or sets it aside if it is damaged and there is room for that.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn discard(&self, segment: &Segment) -> Result<(), JournalError> {
        if segment.damaged {
            match self.set_aside(segment) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%error, "a damaged segment can't be set aside"),
            }
        }
        match self.disk.make(Change::Remove(&segment.path)) {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed,
        }
    }

    /// Moves a damaged segment away; beyond the bound the oldest goes for good.
    fn set_aside(&self, segment: &Segment) -> Result<(), JournalError> {
        let aside = self.folder.join(ASIDE);
        self.disk.make(Change::MakeFolder(&aside))?;
        if let Some(name) = segment.path.file_name() {
            self.disk.make(Change::Rename(&segment.path, &aside.join(name)))?;
        }
        let mut kept = Vec::new();
        let unreadable = |e| JournalError::io("list", &aside, e);
        for entry in std::fs::read_dir(&aside).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            kept.push((entry.metadata().and_then(|meta| meta.modified()).map_err(unreadable)?, entry.path()));
        }
        kept.sort();
        for (_, path) in kept.iter().take(kept.len().saturating_sub(MAX_ASIDE)) {
            self.disk.make(Change::Remove(path))?;
        }
        Ok(())
    }

    /// Evicts the oldest segment of the lowest severity, never of a higher one than `stream` has.
    ///
    /// # Errors
    /// [`JournalError::Full`] if there is none.
    pub fn make_room(&mut self, stream: Stream) -> Result<(), JournalError> {
        if self.disk.make(Change::RemoveFolder(&self.folder.join(ASIDE))).is_ok() {
            return Ok(());
        }
        // Lanes of one severity count alike: the oldest of theirs goes.
        let milder = self.streams.iter().filter(|(candidate, _)| candidate.severity <= stream.severity);
        let free = milder.filter_map(|(&candidate, log)| {
            let at = log.segments.iter().position(|segment| !self.held(candidate, &segment.extent))?;
            Some((candidate.severity, log.segments.get(at)?.times.0, candidate, at))
        });
        let Some((.., victim, at)) = free.min() else { return Err(JournalError::Full) };
        self.evict(victim, at);
        Ok(())
    }

    /// Evicts segments whose last record is older than the bound.
    pub fn expire(&mut self) {
        let (bound, clock) = (self.limits.age, self.clock.clone());
        let old = |segment: &Segment| segment.age(&clock) > bound;
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
        // Counted first, so that a loss of power in between can't make it a loss of another kind. Where even that can't
        // be written, room is needed all the more.
        self.settle();
        self.remove(&segment);
    }
}

fn time(ms: u64) -> Timestamp {
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}
