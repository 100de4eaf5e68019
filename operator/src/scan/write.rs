//! Writing `status.scan` beside the counts: under the object's version, so that neither writer loses the other's word.

use zastava_crds::finding::{RuntimeFindingStatus, ScanStatus};

use super::delta::Place;
use crate::finding::store::{FindingStore, StoreError};

/// Tries of one write against others of the same finding.
const ATTEMPTS: usize = 8;

/// Changes `status.scan` of a finding; `change` sees the status as it is and gives the scan to write, or nothing.
/// Returns what was written.
///
/// # Errors
/// [`StoreError`]; a finding that is gone is no error.
pub(super) async fn write<S: FindingStore>(
    store: &S,
    place: &Place,
    change: impl Fn(&RuntimeFindingStatus) -> Option<ScanStatus>,
) -> Result<Option<ScanStatus>, StoreError> {
    for attempt in 0..ATTEMPTS {
        let Some(mut finding) = store.get(&place.namespace, &place.name, attempt > 0).await? else { return Ok(None) };
        let Some(status) = finding.status.as_mut() else { return Ok(None) };
        let Some(scan) = change(status) else { return Ok(None) };
        status.scan = Some(scan.clone());
        match store.write_status(&finding).await {
            Ok(()) => return Ok(Some(scan)),
            Err(StoreError::Conflict) => {}
            Err(StoreError::Missing) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Conflict)
}
