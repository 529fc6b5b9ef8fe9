//! Notice when files change, however they are replaced.
//!
//! A file is written in place, renamed over, or reached through a symbolic link that is swapped somewhere along its path (this is how
//! Kubernetes updates mounted ConfigMaps and Secrets). A watch on the file itself follows the old inode and misses all but the first, so
//! directories are watched: those that hold the file, and those that hold a link on the way to it. What an event says is not believed;
//! it only causes everything to be read again.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc::Sender},
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};

use super::Signal;

/// What a change must touch to matter.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Interest {
    /// Directories of which every entry matters.
    directories: BTreeSet<PathBuf>,
    /// Single entries: files, links on the way, and names that do not exist yet.
    entries: BTreeSet<PathBuf>,
}

/// Links that lead to links: more than the kernel itself follows.
const MOST_LINKS: usize = 40;

impl Interest {
    /// Whatever could change what `path` leads to. If it leads to a directory, the entries of that directory too.
    pub(super) fn add(&mut self, path: &Path) {
        let Ok(mut path) = std::path::absolute(path) else { return };
        for _ in 0..MOST_LINKS {
            match self.follow(&path) {
                Some(next) => path = next,
                None => return,
            }
        }
    }

    /// Walk along `path` up to the first symbolic link, and answer where that leads.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut reached = PathBuf::new();
        let mut components = path.components();
        while let Some(component) = components.next() {
            if component == Component::ParentDir {
                reached.pop();
                continue;
            }
            reached.push(component);
            let Ok(metadata) = fs::symlink_metadata(&reached) else {
                self.entries.insert(reached);
                return None;
            };
            if metadata.is_symlink() {
                let target = fs::read_link(&reached).ok()?;
                let parent = reached.parent().unwrap_or(Path::new("/")).to_owned();
                self.entries.insert(reached);
                return Some(parent.join(target).join(components.as_path()));
            }
        }
        if reached.is_dir() {
            self.directories.insert(reached.clone());
        }
        self.entries.insert(reached);
        None
    }

    fn to_watch(&self) -> BTreeSet<PathBuf> {
        let parents = self.entries.iter().filter_map(|entry| entry.parent()).map(Path::to_owned);
        self.directories.iter().cloned().chain(parents).collect()
    }

    fn concerns(&self, path: &Path) -> bool {
        self.entries.contains(path)
            || self.directories.contains(path)
            || path.parent().is_some_and(|parent| self.directories.contains(parent))
    }
}

/// What the callback of the operating system's watch and the source share.
#[derive(Debug, Default)]
struct Shared {
    interest: Interest,
    /// Files that somebody has begun to write and has not closed yet.
    unfinished: BTreeSet<PathBuf>,
}

impl Shared {
    /// Whether this event may be a change that matters. What it says is only used to know which files are half written.
    fn see(&mut self, event: &notify::Event) -> bool {
        let concerns = event.paths.iter().any(|path| self.interest.concerns(path));
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                event.paths.iter().for_each(|path| _ = self.unfinished.remove(path));
            }
            // Reading is no change: without this every reload would cause the next one.
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Data(_)) if concerns => self.unfinished.extend(event.paths.iter().cloned()),
            EventKind::Modify(ModifyKind::Name(_)) => {
                event.paths.iter().for_each(|path| _ = self.unfinished.remove(path));
            }
            _ => {}
        }
        concerns || event.need_rescan()
    }
}

/// Sends [`Signal::Changed`] when something of interest may have changed.
pub(super) struct Watcher {
    notify: RecommendedWatcher,
    shared: Arc<Mutex<Shared>>,
    watched: BTreeSet<PathBuf>,
}

impl Watcher {
    pub(super) fn new(signals: Sender<Signal>) -> notify::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let seen = Arc::clone(&shared);
        let notify = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if event.as_ref().map_or(true, |event| seen.see(event)) {
                // Nobody listens any more when the source has ended.
                let _ = signals.send(Signal::Changed);
            }
        })?;
        Ok(Self { notify, shared, watched: BTreeSet::new() })
    }

    /// Whether somebody is in the middle of writing a file: what stands there now may be half of it.
    pub(super) fn sees_unfinished_files(&self) -> bool {
        !self.shared().unfinished.is_empty()
    }

    /// A writer that holds a file open for long is not waited for again.
    pub(super) fn forget_unfinished_files(&self) {
        self.shared().unfinished.clear();
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watch for this. Directories are watched anew each time, because one that was removed and made again has lost its watch.
    ///
    /// The watch stands before this returns, so that whoever reads afterwards misses nothing.
    pub(super) fn watch(&mut self, interest: &Interest) -> Vec<(PathBuf, notify::Error)> {
        let wanted = interest.to_watch();
        interest.clone_into(&mut self.shared().interest);
        for gone in self.watched.difference(&wanted) {
            // It may have vanished together with its watch.
            let _ = self.notify.unwatch(gone);
        }
        let mut failed = Vec::new();
        for directory in &wanted {
            if let Err(error) = self.notify.watch(directory, RecursiveMode::NonRecursive)
                && !is_missing(&error)
            {
                failed.push((directory.clone(), error));
            }
        }
        self.watched = wanted;
        failed
    }
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn interest(path: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let mut interest = Interest::default();
        interest.add(path);
        (interest.directories.into_iter().collect(), interest.entries.into_iter().collect())
    }

    #[test]
    fn a_file_behind_links_depends_on_every_link_and_on_itself() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::create_dir(at("..v1")).unwrap();
        fs::write(at("..v1/routes.yaml"), "").unwrap();
        symlink("..v1", at("..data")).unwrap();
        symlink("..data/routes.yaml", at("routes.yaml")).unwrap();

        let (directories, entries) = interest(&at("routes.yaml"));

        assert_eq!(directories, Vec::<PathBuf>::new());
        assert_eq!(entries, [at("..data"), at("..v1/routes.yaml"), at("routes.yaml")]);
    }

    #[test]
    fn a_directory_is_watched_with_all_its_entries_and_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        assert_eq!(interest(&path), (vec![path.clone()], vec![path]));
    }

    #[test]
    fn a_name_that_does_not_exist_is_waited_for_at_the_last_directory_that_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let (directories, entries) = interest(&path.join("missing/routes.yaml"));
        assert_eq!((directories, entries), (vec![], vec![path.join("missing")]));
    }

    #[test]
    fn links_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        let (_, entries) = interest(&at("a"));
        assert_eq!(entries, [at("a"), at("b")]);
    }

    #[test]
    fn a_file_is_unfinished_from_its_first_bytes_until_it_is_closed_renamed_or_removed() {
        use notify::event::{CreateKind, DataChange, RemoveKind, RenameMode};
        let file = Path::new("/conf/r.yaml");
        let event = |kind: EventKind| notify::Event::new(kind).add_path(file.to_owned());
        let write = || event(EventKind::Modify(ModifyKind::Data(DataChange::Any)));
        let read = event(EventKind::Access(AccessKind::Close(AccessMode::Read)));
        let ends = [
            event(EventKind::Access(AccessKind::Close(AccessMode::Write))),
            event(EventKind::Modify(ModifyKind::Name(RenameMode::From))),
            event(EventKind::Remove(RemoveKind::File)),
        ];
        for end in ends {
            let directories = BTreeSet::from([PathBuf::from("/conf")]);
            let mut shared = Shared { interest: Interest { directories, ..Interest::default() }, ..Shared::default() };
            assert!(shared.see(&event(EventKind::Create(CreateKind::File))));
            assert!(shared.unfinished.is_empty());
            assert!(shared.see(&write()));
            assert!(!shared.see(&read), "others may read meanwhile");
            assert!(!shared.unfinished.is_empty());
            assert!(shared.see(&end));
            assert!(shared.unfinished.is_empty(), "{end:?}");
        }
    }

    #[test]
    fn files_of_no_interest_are_not_waited_for() {
        let mut shared = Shared::default();
        let kind = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
        assert!(!shared.see(&notify::Event::new(kind).add_path("/tmp/log".into())));
        assert!(shared.unfinished.is_empty());
    }
}
