//! What Zastava's programs say to each other and to the backend. A breaking change is a new `@v` major.

pub mod event;
pub mod fact;
pub mod report;
pub mod sync;
pub mod verdict;
