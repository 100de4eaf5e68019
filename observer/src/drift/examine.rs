//! Where an executed file comes from, and what it holds.

use std::{
    collections::HashMap,
    fs::{self, File},
    hash::Hash,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use zastava_crds::{
    digest::Sha256Digest,
    wire::event::{DriftClass, ExecutedFile},
};

use super::{Root, process::is_same, read, script};
use crate::{
    containers::Container,
    probe::{
        load::namespace,
        maps::VerifiedKey,
        record::{ExecRecord, KernelClass, flags},
    },
};

/// Entries of a cache before it begins anew.
const CACHED: usize = 4096;

/// Looks at files of containers.
#[derive(Debug)]
pub struct Examiner {
    proc: PathBuf,
    /// A process in the mount namespace that containers are made from.
    host: AtomicU32,
    roots: Cache<String, Arc<Root>>,
    hashes: Cache<(u64, u64, i64, i64), Sha256Digest>,
    /// Mapped files that a layer of the image holds: superblock, mount namespace, number.
    pub(super) images: Cache<(u32, u32, u64), ()>,
}

/// A file that was executed, found but not read.
#[derive(Debug)]
pub struct Located {
    /// `None`: content of the image.
    pub class: Option<DriftClass>,
    /// Its path proves where it lies.
    pub path_holds: bool,
    /// What is told of it.
    pub file: ExecutedFile,
    pub(super) content: Result<File, String>,
    pub(super) lower: Option<File>,
    pub(super) verified: Option<VerifiedKey>,
}

/// A file that was executed, read.
#[derive(Debug)]
pub struct Examined {
    /// Where it came from.
    pub class: DriftClass,
    /// For a copied-up file: whether its content is other than the image's, if that is known.
    pub changed: Option<bool>,
    /// What is told of it.
    pub file: ExecutedFile,
    /// To be remembered as a file with a lower origin.
    pub verified: Option<VerifiedKey>,
}

impl Located {
    /// Whether only its content tells what it is.
    pub fn depends_on_content(&self) -> bool {
        self.lower.is_some() || self.class == Some(DriftClass::CopiedUp)
    }
}

impl Examiner {
    /// With /proc mounted there.
    pub fn new(proc: impl Into<PathBuf>) -> Self {
        Self {
            proc: proc.into(),
            host: AtomicU32::new(1),
            roots: Cache::default(),
            hashes: Cache::default(),
            images: Cache::default(),
        }
    }

    /// Containers are made by this process.
    pub fn set_host(&self, pid: u32) {
        self.host.store(pid, Ordering::Relaxed);
    }

    pub(super) fn host_root(&self) -> PathBuf {
        self.process(self.host.load(Ordering::Relaxed)).join("root")
    }

    pub(super) fn process(&self, pid: u32) -> PathBuf {
        self.proc.join(pid.to_string())
    }

    /// The root of a container, told by its first process or by one of it that runs right now.
    pub fn root(&self, container: &Container, running: Option<&ExecRecord>) -> io::Result<Arc<Root>> {
        let id = &container.reference.container_id;
        if let Some(root) = self.roots.get(id) {
            return Ok(root);
        }
        // A process in a namespace of its own making, or one that the runtime is still putting in its place, proves
        // nothing of the container.
        let armed = running.filter(|record| record.root_device != 0);
        let other = armed.filter(|record| !record.has(flags::OTHER_MNTNS)).map(|record| record.pid);
        let mut problem = io::Error::from(io::ErrorKind::NotFound);
        for pid in [container.pid, other.unwrap_or(0)].into_iter().filter(|pid| *pid != 0) {
            match Root::of(&self.proc, pid) {
                Ok(root) if running.is_none_or(|r| r.root_device == 0 || r.root_device == root.device) => {
                    let root = Arc::new(root);
                    if armed.is_some() || running.is_none() {
                        self.roots.put(id.clone(), root.clone());
                    }
                    return Ok(root);
                }
                Ok(_) => problem = io::Error::other("the mount table shows another root than the kernel recorded"),
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    /// Finds what a record is about: the script behind an interpreter if that is what drifted, else the file itself.
    pub fn locate(&self, record: &ExecRecord, container: &Container) -> Located {
        let root = self.root(container, Some(record)).ok();
        let root = root.as_deref();
        if let Some(name) = script::name(record)
            && let Some(located) = self.locate_script(record, container, root, name)
            && (located.class.is_some() || record.class == KernelClass::Image)
        {
            return located;
        }
        self.locate_file(record, container, root)
    }

    fn locate_file(&self, record: &ExecRecord, container: &Container, root: Option<&Root>) -> Located {
        let class = match record.class {
            KernelClass::Image => None,
            KernelClass::Drift(class) => Some(class),
        };
        let path_holds = !record.has(flags::OTHER_MNTNS) && class != Some(DriftClass::Unnamed);
        let file = ExecutedFile {
            path: record.path.clone(),
            interpreter: None,
            inode: record.inode,
            device: u64::from(record.device),
            links: if record.has(flags::UNLINKED) { 0 } else { record.links },
            size: record.size,
            sha256: None,
            image_sha256: None,
            unread: None,
        };
        let mut located = Located { class, path_holds, file, content: Err(String::new()), lower: None, verified: None };
        let Some(class) = class else { return located };
        located.content = self.content(record, container, root);
        if matches!(class, DriftClass::New | DriftClass::CopiedUp) && !record.has(flags::PATH_CUT) {
            let overlay = root.and_then(|root| root.overlay.as_ref());
            // A path through a namespace of its own making names nothing of the image.
            let lower = overlay.filter(|_| path_holds).map(|o| o.open_lower(&self.host_root(), &record.path));
            located.lower = lower.and_then(Result::ok).flatten();
            located.verified = Some(VerifiedKey {
                upper_inode: record.upper_inode,
                ctime_ns: record.ctime_ns,
                device: u64::from(record.device),
            });
        }
        located
    }

    /// The content of the executed file, from whichever place still has it, and only if it is the same file.
    fn content(&self, record: &ExecRecord, container: &Container, root: Option<&Root>) -> Result<File, String> {
        let process = self.process(record.pid);
        let mut problem = "the process was gone before it could be read".to_owned();
        if let Ok(file) = read::magic(&process.join("exe"))
            && is_same(&self.proc, record.pid, record.start_boottime_ns)
        {
            // After another exec the link points elsewhere.
            match same_file(&file, record.inode, record) {
                Ok(()) => return Ok(file),
                Err(why) => problem = why,
            }
        }
        if record.has(flags::UNLINKED) || record.has(flags::PATH_CUT) || record.has(flags::OTHER_MNTNS) {
            return Err(problem);
        }
        if record.upper_inode != 0
            && let Some(overlay) = root.and_then(|root| root.overlay.as_ref())
            && let Ok(file) = overlay.open_upper(&self.host_root(), &record.path)
        {
            match same_file(&file, record.upper_inode, record) {
                Ok(()) => return Ok(file),
                Err(why) => problem = why,
            }
        }
        let inside = self.process(container.pid).join("root");
        if container.pid != 0
            && let Ok(file) = read::folder(&inside).and_then(|root| read::file(root, &record.path, false))
        {
            return same_file(&file, record.inode, record).map(|()| file);
        }
        Err(problem)
    }

    fn locate_script(
        &self,
        record: &ExecRecord,
        container: &Container,
        root: Option<&Root>,
        name: &str,
    ) -> Option<Located> {
        let own = self.process(record.pid);
        let found = script::find(&own, record.pid, name, true)
            .ok()
            .filter(|_| is_same(&self.proc, record.pid, record.start_boottime_ns))
            .or_else(|| {
                // A short script is gone by now. Its parent most likely still stands where it stood.
                let parent = self.process(record.ppid);
                let by_path = !name.starts_with("/dev/fd/") && !name.starts_with("/proc/self/");
                let at_home = by_path
                    && namespace(&parent.join("ns/mnt")).ok().zip(root).is_some_and(|(own, root)| own == root.mntns);
                at_home.then(|| script::find(&parent, record.ppid, name, true).ok()).flatten()
            })
            .or_else(|| {
                let first = self.process(container.pid);
                (container.pid != 0).then(|| script::find(&first, container.pid, name, false).ok()).flatten()
            })?;
        let meta = found.file.metadata().ok()?;
        let root_device = if record.root_device == 0 { root?.device } else { record.root_device };
        let path_holds = !record.has(flags::OTHER_MNTNS) && found.place.is_some();
        let mut lower = None;
        let mut verified = None;
        let class = match &found.place {
            None => Some(DriftClass::Unnamed),
            Some(place) if place.device != root_device => Some(DriftClass::Foreign),
            Some(place) => match root.and_then(|root| root.overlay.as_ref()) {
                None => Some(DriftClass::Unknown),
                Some(overlay) => match overlay.open_upper(&self.host_root(), &place.inside) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                    Err(_) => Some(DriftClass::Unknown),
                    Ok(upper) => {
                        lower = overlay.open_lower(&self.host_root(), &place.inside).ok().flatten();
                        verified = upper.metadata().ok().map(|meta| VerifiedKey {
                            upper_inode: meta.ino(),
                            ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
                            device: u64::from(root_device),
                        });
                        Some(if lower.is_some() { DriftClass::CopiedUp } else { DriftClass::New })
                    }
                },
            },
        };
        let device = found.place.as_ref().map_or(0, |place| u64::from(place.device));
        let file = ExecutedFile {
            path: found.place.map_or(found.name, |place| place.path),
            interpreter: Some(record.path.clone()),
            inode: meta.ino(),
            device,
            links: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
            size: meta.size(),
            sha256: None,
            image_sha256: None,
            unread: None,
        };
        Some(Located { class, path_holds, file, content: Ok(found.file), lower, verified })
    }

    /// Reads what was located. Meant for drift: content of the image is not read.
    pub fn read(&self, located: Located) -> Examined {
        let Located { class, mut file, content, lower, verified, .. } = located;
        match content.and_then(|mut content| self.hash(&mut content)) {
            Ok(hash) => file.sha256 = Some(hash),
            Err(why) => file.unread = Some(why),
        }
        file.image_sha256 = lower.and_then(|mut lower| self.hash(&mut lower).ok());
        let class = class.unwrap_or(DriftClass::Unknown);
        let same = file.sha256.as_ref().zip(file.image_sha256.as_ref()).map(|(own, image)| own == image);
        match (class, same) {
            // The inode number misled the kernel: a hardlinked image file that was only copied up.
            (DriftClass::New, Some(true)) => {
                Examined { class: DriftClass::CopiedUp, changed: Some(false), file, verified }
            }
            (DriftClass::CopiedUp, _) => {
                Examined { class, changed: same.map(|same| !same), verified: same.and(verified), file }
            }
            _ => {
                file.image_sha256 = None;
                Examined { class, changed: None, file, verified: None }
            }
        }
    }

    fn hash(&self, file: &mut File) -> Result<Sha256Digest, String> {
        let meta = file.metadata().map_err(|error| error.to_string())?;
        let key = (meta.dev(), meta.ino(), nanoseconds(meta.ctime(), meta.ctime_nsec()), meta.size().cast_signed());
        if let Some(hash) = self.hashes.get(&key) {
            return Ok(hash);
        }
        let hash = read::hash(file)?;
        self.hashes.put(key, hash.clone());
        Ok(hash)
    }
}

fn nanoseconds(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Whether an opened file is the one that the kernel saw, unchanged since.
fn same_file(file: &File, inode: u64, record: &ExecRecord) -> Result<(), String> {
    let meta = file.metadata().map_err(|error| error.to_string())?;
    let same = meta.ino() == inode
        && meta.size() == record.size
        && nanoseconds(meta.mtime(), meta.mtime_nsec()) == record.mtime_ns;
    if same { Ok(()) } else { Err("another file has its name by now".to_owned()) }
}

/// A bounded memory of what was found; it begins anew when it is full.
#[derive(Debug)]
pub(super) struct Cache<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(super) fn put(&self, key: K, value: V) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= CACHED {
            map.clear();
        }
        map.insert(key, value);
    }
}

/// Whether every layer of an overlay is a folder in the mount namespace of `host`, as those of a runtime are.
pub fn is_the_runtimes(host_root: &Path, overlay: &super::Overlay) -> bool {
    let is_folder = |path: &PathBuf| {
        fs::metadata(host_root.join(path.strip_prefix("/").unwrap_or(path))).is_ok_and(|meta| meta.is_dir())
    };
    is_folder(&overlay.upper) && overlay.lower.iter().all(is_folder)
}

impl Examiner {
    /// What the kernel may be told of a container that has not executed since the probe was attached.
    pub fn armable(&self, container: &Container) -> Option<Arc<Root>> {
        let root = self.root(container, None).ok()?;
        root.overlay.as_ref().is_none_or(|overlay| is_the_runtimes(&self.host_root(), overlay)).then_some(root)
    }
}
