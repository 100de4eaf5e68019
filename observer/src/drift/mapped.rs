//! Where a file comes from that a process mapped for execution.

use std::{fs::File, io, os::unix::fs::MetadataExt as _};

use zastava_crds::wire::event::{DriftClass, ExecutedFile};

use super::{Examiner, Located, Overlay, read, script};
use crate::{containers::Container, probe::mapping::Mapping};

/// What a mapped file is.
#[derive(Debug)]
pub enum Mapped {
    /// Content of the image.
    Image,
    /// Not that.
    Drift(Box<Located>),
    /// Nothing can be said: its name leads nowhere any more, or to another file.
    Unresolved,
}

/// The part of an inode number that a layer gave: an overlay's `xino` takes some bits of the rest.
const LAYER: u64 = (1 << 56) - 1;

/// A file of one layer, if it has this name.
fn layer(file: io::Result<Option<File>>) -> io::Result<Option<File>> {
    match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other,
    }
}

fn is_the_mapped(file: &File, mapping: &Mapping) -> bool {
    file.metadata().is_ok_and(|meta| {
        let device = rustix::fs::major(meta.dev()) << 20 | rustix::fs::minor(meta.dev());
        meta.ino() == mapping.inode && device == mapping.device
    })
}

impl Examiner {
    /// Finds what was mapped. `lives` tells that the pid is still the process that mapped it, `own_mounts` that its
    /// mounts are the container's.
    pub fn mapped(&self, mapping: &Mapping, container: &Container, lives: bool, own_mounts: Option<bool>) -> Mapped {
        let Ok(root) = self.root(container, None) else { return Mapped::Unresolved };
        let process = self.process(mapping.pid);
        let name = mapping.path.trim_end_matches(" (deleted)");
        let own_mounts = own_mounts.or_else(|| {
            let mounts = lives.then(|| crate::probe::load::namespace(&process.join("ns/mnt")).ok()).flatten()?;
            Some(mounts == root.mntns)
        });
        let found = &|class: DriftClass, content: Result<File, String>, lower: Option<File>| {
            let content = content.map_err(|why| if why.is_empty() { "its name was gone".to_owned() } else { why });
            let meta = content.as_ref().ok().and_then(|file| file.metadata().ok());
            let file = ExecutedFile {
                path: name.to_owned(),
                interpreter: None,
                inode: mapping.inode,
                device: u64::from(mapping.device),
                links: meta.as_ref().map_or(0, |meta| u32::try_from(meta.nlink()).unwrap_or(u32::MAX)),
                size: meta.as_ref().map_or(0, std::os::unix::fs::MetadataExt::size),
                sha256: None,
                image_sha256: None,
                unread: None,
            };
            let path_holds = own_mounts == Some(true) && class != DriftClass::Unnamed;
            Mapped::Drift(Box::new(Located { class: Some(class), path_holds, file, content, lower, verified: None }))
        };
        if mapping.is_unnamed() {
            return found(DriftClass::Unnamed, Err(String::new()), None);
        }
        let Some(overlay) = &root.overlay else { return Mapped::Unresolved };
        // Through the process, a chroot and its mounts are seen through.
        let seen = lives.then(|| script::find(&process, mapping.pid, name, true).ok()).flatten();
        let place = seen.as_ref().and_then(|seen| seen.place.as_ref());
        let on_root = mapping.device == root.device;
        let inside = place.filter(|place| place.device == root.device).map_or(name, |place| place.inside.as_str());
        if on_root {
            return self.on_root(mapping, (root.mntns, overlay), inside, found);
        }
        if let Some(found) = self.beneath(mapping, overlay, inside, found) {
            return found;
        }
        if !lives && own_mounts.is_none() {
            return Mapped::Unresolved;
        }
        let content = seen.map(|seen| seen.file).filter(|file| is_the_mapped(file, mapping)).ok_or_else(String::new);
        found(DriftClass::Foreign, content, None)
    }

    /// Finds what a process runs that was there before anybody looked; `None` for content of the image, and where
    /// nothing can be said.
    pub fn running(&self, pid: u32, container: &Container) -> Option<Located> {
        let process = self.process(pid);
        let link = process.join("exe");
        let meta = read::magic(&link).ok()?.metadata().ok()?;
        let seen = script::whereabouts(read::magic(&link).ok()?, &process, pid).ok()?;
        // An overlay tells another device of a file than that of its mount.
        let device = match &seen.place {
            Some(place) => place.device,
            None => rustix::fs::major(meta.dev()) << 20 | rustix::fs::minor(meta.dev()),
        };
        let mapping = Mapping {
            pid,
            monotonic_ns: 0,
            cpu: 0,
            address: 0,
            device,
            inode: meta.ino(),
            path: std::fs::read_link(&link).ok()?.to_string_lossy().into_owned(),
        };
        if mapping.is_unnamed() && self.was_the_images(&mapping, container) {
            return None;
        }
        let Mapped::Drift(mut located) = self.mapped(&mapping, container, true, None) else { return None };
        located.content = Ok(seen.file);
        Some(*located)
    }

    /// A deleted file of a lower layer is still the image's content.
    fn was_the_images(&self, mapping: &Mapping, container: &Container) -> bool {
        let name = mapping.path.trim_end_matches(" (deleted)");
        let root = self.root(container, None).ok();
        let overlay = root.as_ref().and_then(|root| root.overlay.as_ref());
        let lower = overlay.and_then(|overlay| overlay.open_lower(&self.host_root(), name).ok().flatten());
        lower.and_then(|file| file.metadata().ok()).is_some_and(|meta| meta.ino() == mapping.inode)
    }

    /// A file of the container's root.
    fn on_root(
        &self,
        mapping: &Mapping,
        (mounts, overlay): (u32, &Overlay),
        inside: &str,
        found: impl Fn(DriftClass, Result<File, String>, Option<File>) -> Mapped,
    ) -> Mapped {
        let host = self.host_root();
        let Ok(upper) = layer(overlay.open_upper(&host, inside).map(Some)) else { return Mapped::Unresolved };
        // Layers of the image don't change, so a file of theirs is looked up once; the container's own may come any time.
        let file = (mapping.device, mounts, mapping.inode);
        if upper.is_none() && self.images.get(&file).is_some() {
            return Mapped::Image;
        }
        let Ok(lower) = layer(overlay.open_lower(&host, inside)) else { return Mapped::Unresolved };
        let number = |file: &File| file.metadata().map_or(0, |meta| meta.ino());
        match (upper, lower) {
            // Another folder may have the mapped file's path by now; where layers are of several file systems, the
            // kernel may say in the number's highest bits which one it was.
            (None, Some(lower)) if number(&lower) == mapping.inode & LAYER => {
                self.images.put(file, ());
                Mapped::Image
            }
            (None, _) => Mapped::Unresolved,
            (Some(upper), None) if number(&upper) == mapping.inode => found(DriftClass::New, Ok(upper), None),
            (Some(_), None) => found(DriftClass::New, Err("another file has its name by now".to_owned()), None),
            // Put in the place of the image's, or written into it: its hash decides.
            (Some(upper), Some(lower)) if number(&upper) == mapping.inode => {
                found(DriftClass::New, Ok(upper), Some(lower))
            }
            (Some(upper), Some(lower)) => found(DriftClass::CopiedUp, Ok(upper), Some(lower)),
        }
    }

    /// A kernel that tells the file below the overlay instead of the overlay's.
    fn beneath(
        &self,
        mapping: &Mapping,
        overlay: &Overlay,
        inside: &str,
        found: impl Fn(DriftClass, Result<File, String>, Option<File>) -> Mapped,
    ) -> Option<Mapped> {
        let host = self.host_root();
        let upper = overlay.open_upper(&host, inside).ok().filter(|file| is_the_mapped(file, mapping));
        let lower = overlay.open_lower(&host, inside).ok().flatten();
        match (upper, lower) {
            (Some(upper), None) => Some(found(DriftClass::New, Ok(upper), None)),
            (Some(upper), lower) => Some(found(DriftClass::CopiedUp, Ok(upper), lower)),
            (None, Some(lower)) if is_the_mapped(&lower, mapping) => Some(Mapped::Image),
            (None, _) => None,
        }
    }
}
