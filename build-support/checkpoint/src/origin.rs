//! Where a checkpoint comes from: the links on the way to it, and the commit that a hub's cache is of.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Links that are followed, one after another.
const LINKS: usize = 40;

/// A commit of a repository, as the folder of a hub's cache is named after it
/// (`models--OWNER--NAME/snapshots/COMMIT`).
///
/// ```
/// use pycandle_checkpoint::Origin;
/// let commit = "0123456789abcdef0123456789abcdef01234567";
/// let path = format!("models--org--llama/snapshots/{commit}/model.safetensors");
/// let origin = Origin::of(path.as_ref()).ok_or("no commit")?;
/// assert_eq!(origin.to_string(), format!("org/llama at commit {commit}"));
/// assert_eq!(Origin::of("models/model.safetensors".as_ref()), None);
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `OWNER/NAME`, where it is said.
    pub repository: Option<String>,
    /// The commit's hash.
    pub commit: String,
}

impl Origin {
    /// What a path says of it; the path need not be there.
    pub fn of(path: &Path) -> Option<Self> {
        let parts = path.iter().filter_map(|part| part.to_str());
        let parts: Vec<&str> = parts.collect();
        let at = parts.iter().rposition(|part| *part == "snapshots")?;
        let commit = *parts.get(at + 1)?;
        let is_hash = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        let repository = at
            .checked_sub(1)
            .and_then(|at| parts[at].strip_prefix("models--"));
        is_hash.then(|| Self {
            repository: repository.map(|name| name.replace("--", "/")),
            commit: commit.to_owned(),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repository {
            Some(repository) => write!(f, "{repository} at commit {}", self.commit),
            None => write!(f, "commit {}", self.commit),
        }
    }
}

/// The absolute path of a file or folder, and that of what it links to, as far as that goes. Folders on
/// the way are where they are, and not where a link puts them.
pub(crate) fn hops(path: &Path) -> Vec<PathBuf> {
    let mut hops = Vec::new();
    let mut next = path.to_path_buf();
    while hops.len() < LINKS {
        let folder = match next.parent() {
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
            None => Path::new("/"),
        };
        let here = match (fs::canonicalize(folder), next.file_name()) {
            (Ok(folder), Some(name)) => folder.join(name),
            // `.` and `..` have a name only once they are resolved.
            _ => match fs::canonicalize(&next) {
                Ok(here) => here,
                Err(_) => break,
            },
        };
        let target = fs::read_link(&here).ok();
        let folder = here.parent().map(Path::to_path_buf).unwrap_or_default();
        hops.push(here);
        match target {
            Some(target) => next = folder.join(target),
            None => break,
        }
    }
    hops
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Checkpoint;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A cache as the hub's libraries make it, and two links into it.
    fn cache() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let snapshot = format!("cache/models--o--n/snapshots/{COMMIT}");
        fs::create_dir_all(path(&snapshot)).expect("folders");
        fs::create_dir_all(path("cache/models--o--n/blobs")).expect("folders");
        let bytes = [&2u64.to_le_bytes()[..], b"{}"].concat();
        fs::write(path("cache/models--o--n/blobs/b"), bytes).expect("a blob");
        let link = |to: &str, at: &str| symlink(to, path(at)).expect("a link");
        link("../../blobs/b", &format!("{snapshot}/model.safetensors"));
        fs::write(path(&format!("{snapshot}/config.json")), "{\"a\": 1}").expect("a config");
        link(&format!("{snapshot}/model.safetensors"), "m.safetensors");
        link(&snapshot, "m");
        fs::create_dir(path("deep")).expect("a folder");
        link("../m.safetensors", "deep/again.safetensors");
        folder
    }

    #[test]
    fn what_links_lead_to_is_where_a_checkpoint_comes_from() {
        let folder = cache();
        for name in [
            "m.safetensors",
            "m",
            "m/model.safetensors",
            "deep/again.safetensors",
        ] {
            let path = folder.path().join(name);
            let checkpoint = Checkpoint::open_shown(&path, name.as_ref()).expect(name);
            let origin = checkpoint.origin().expect(name);
            assert_eq!(origin.to_string(), format!("o/n at commit {COMMIT}"));
            let config = checkpoint.config().expect("a config");
            assert_eq!(config.as_deref(), Some("{\"a\": 1}"), "{name}");
        }
        // What lies beside the link goes first.
        fs::write(folder.path().join("config.json"), "{}").expect("a config");
        let path = folder.path().join("m.safetensors");
        let checkpoint = Checkpoint::open(&path).expect("a file");
        assert_eq!(checkpoint.config().expect("text").as_deref(), Some("{}"));
        assert_eq!(
            checkpoint.config_path().0,
            folder.path().join("config.json")
        );
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        symlink("b", folder.path().join("a")).expect("a link");
        symlink("a", folder.path().join("b")).expect("a link");
        assert_eq!(hops(&folder.path().join("a")).len(), LINKS);
        assert!(hops(&folder.path().join("no/such")).is_empty());
    }
}
