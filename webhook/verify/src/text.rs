//! Text from outside, as far as a message may show it.

use std::fmt::{self, Display, Write};

/// Writes no more than it has room for, so that not even the whole text is ever made.
struct Room {
    text: String,
    left: usize,
}

impl Write for Room {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        for c in part.chars() {
            if self.left == 0 {
                return Err(fmt::Error);
            }
            self.left -= 1;
            self.text.push(if c.is_control() { ' ' } else { c });
        }
        Ok(())
    }
}

/// At most `max` characters, on one line; `…` where something was cut off.
pub(crate) fn bounded(text: &impl Display, max: usize) -> String {
    let mut room = Room { text: String::new(), left: max };
    if write!(room, "{text}").is_err() {
        room.text.push('…');
    }
    room.text
}
