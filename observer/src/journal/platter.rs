//! A disk that loses power: from the changes that a journal asked for, what may be left of them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use super::{
    dice::Dice,
    disk::{Change, Watcher},
};

/// What happened, in order. Paths are as the journal named them.
#[derive(Clone, Debug)]
pub enum Event<M> {
    Create(PathBuf),
    AtLeast(PathBuf, u64),
    Write(PathBuf, u64, Vec<u8>),
    Length(PathBuf, u64),
    Sync(PathBuf),
    SyncFolder,
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    RemoveFolder(PathBuf),
    /// The test's own.
    Mark(M),
}

/// Writes down every change.
#[derive(Debug)]
pub struct Recorder<M>(pub Mutex<Vec<Event<M>>>);

impl<M> Default for Recorder<M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<M> Recorder<M> {
    pub fn mark(&self, mark: M) {
        self.0.lock().unwrap().push(Event::Mark(mark));
    }
}

impl<M: std::fmt::Debug + Send> Watcher for Recorder<M> {
    fn before(&self, change: &Change<'_>) -> io::Result<()> {
        let event = match *change {
            Change::MakeFolder(_) => return Ok(()),
            Change::Create(path) => Event::Create(path.to_owned()),
            Change::Reserve(_, path, bytes) => Event::AtLeast(path.to_owned(), bytes),
            Change::Write(_, path, at, bytes) => Event::Write(path.to_owned(), at, bytes.to_owned()),
            Change::SetLength(_, path, bytes) => Event::Length(path.to_owned(), bytes),
            Change::Sync(_, path) => Event::Sync(path.to_owned()),
            Change::SyncFolder(_) => Event::SyncFolder,
            Change::Rename(from, to) => Event::Rename(from.to_owned(), to.to_owned()),
            Change::Remove(path) => Event::Remove(path.to_owned()),
            Change::RemoveFolder(path) => Event::RemoveFolder(path.to_owned()),
        };
        self.0.lock().unwrap().push(event);
        Ok(())
    }
}

/// What a loss of power leaves of changes that were not synced.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// All of them: only the process died.
    All,
    /// None.
    None,
    /// Any sectors of any writes, any lengths, and names up to any point.
    Any,
    /// The same, each name for itself.
    AnyNames,
}

#[derive(Clone, Debug)]
enum Piece {
    Bytes(usize, Vec<u8>),
    Length(usize),
    AtLeast(usize),
}

impl Piece {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes(at, new) => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
            Self::Length(length) => bytes.resize(*length, 0),
            Self::AtLeast(length) => bytes.resize(bytes.len().max(*length), 0),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Naming {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Move(PathBuf, PathBuf, usize),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Unlink(path) => drop(names.remove(path)),
            Self::Move(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

/// Files as the process sees them and as the disk has them.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<Naming>,
}

const SECTOR: usize = 512;

impl Platter {
    fn rename(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.pending.push(naming);
    }

    fn piece(&mut self, path: &Path, piece: Piece) {
        if let Some(&inode) = self.names.get(path) {
            self.inodes[inode].pending.push(piece);
        }
    }

    /// Makes a change, of a write as much as `torn` says.
    pub fn apply<M>(&mut self, event: &Event<M>, torn: Option<&mut Dice>) {
        let length = |bytes: u64| usize::try_from(bytes).unwrap();
        match event {
            Event::Create(path) => {
                self.inodes.push(Inode::default());
                self.rename(Naming::Link(path.clone(), self.inodes.len() - 1));
            }
            Event::AtLeast(path, bytes) => self.piece(path, Piece::AtLeast(length(*bytes))),
            Event::Length(path, bytes) => self.piece(path, Piece::Length(length(*bytes))),
            Event::Write(path, at, bytes) => {
                let end = torn.map_or(bytes.len(), |dice| length(dice.below(bytes.len() as u64 + 1)));
                let (mut at, mut rest) = (length(*at), &bytes[..end]);
                while !rest.is_empty() {
                    let (sector, behind) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                    self.piece(path, Piece::Bytes(at, sector.to_owned()));
                    (at, rest) = (at + sector.len(), behind);
                }
            }
            Event::Sync(path) => {
                let Some(&inode) = self.names.get(path) else { return };
                let inode = &mut self.inodes[inode];
                for piece in std::mem::take(&mut inode.pending) {
                    piece.apply(&mut inode.durable);
                }
            }
            Event::SyncFolder => {
                self.durable.clone_from(&self.names);
                self.pending.clear();
            }
            Event::Rename(from, to) => {
                if let Some(&inode) = self.names.get(from) {
                    self.rename(Naming::Move(from.clone(), to.clone(), inode));
                }
            }
            Event::Remove(path) => self.rename(Naming::Unlink(path.clone())),
            Event::RemoveFolder(folder) => {
                let inside = self.names.keys().filter(|path| path.starts_with(folder)).cloned().collect::<Vec<_>>();
                for path in inside {
                    self.rename(Naming::Unlink(path));
                }
            }
            Event::Mark(_) => {}
        }
    }

    /// Puts what is left into `to`, as it lay in `from`.
    pub fn leave(&self, left: Left, dice: &mut Dice, from: &Path, to: &Path) {
        let mut names = self.durable.clone();
        let until = dice.below(self.pending.len() as u64 + 1);
        for (at, naming) in (0..).zip(&self.pending) {
            let there = match left {
                Left::All => true,
                Left::None => false,
                Left::Any => at < until,
                Left::AnyNames => dice.once_in(2),
            };
            if there {
                naming.apply(&mut names);
            }
        }
        for (path, &inode) in &names {
            let Inode { durable, pending } = &self.inodes[inode];
            let mut bytes = durable.clone();
            // Some files keep all, some nothing, some a part.
            let keep = dice.below(3);
            for piece in pending {
                let there = match left {
                    Left::All => true,
                    Left::None => false,
                    Left::Any | Left::AnyNames => keep == 0 || keep == 1 && dice.once_in(2),
                };
                if there {
                    piece.apply(&mut bytes);
                }
            }
            let path = to.join(path.strip_prefix(from).unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}
