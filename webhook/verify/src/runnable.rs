//! Which children of an index may run.

use crate::{
    answer::{Unknown, UnknownCause},
    image::Platforms,
    registry::Child,
};

/// Runnable children of one index that are looked at, at most.
const MAX_RUNNABLE: usize = 32;

/// The children that may run on one of these platforms; of too many nothing can be said. Messages call the index `shown`.
pub(crate) fn runnable(children: Vec<Child>, platforms: &Platforms, shown: &str) -> Result<Vec<Child>, Unknown> {
    let may_run = |child: &Child| child.is_image() && platforms.may_run(child.platform.as_ref());
    let runnable: Vec<_> = children.into_iter().filter(may_run).collect();
    if runnable.len() > MAX_RUNNABLE {
        let message = format!("{shown} has {} runnable children, more than {MAX_RUNNABLE}", runnable.len());
        return Err(Unknown::new(UnknownCause::TooLarge, message));
    }
    Ok(runnable)
}
