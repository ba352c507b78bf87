//! The bytes of the headers: two files that say the same in another order are two files.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use pycandle_checkpoint::{Checkpoint, Error};
use sha2::{Digest, Sha256};

use super::facts::name;
use super::write::hex;

/// The hash of each file's header, by path from the folder of the weights: of everything that stands
/// before the first tensor.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn hashes(checkpoint: &Checkpoint) -> Result<BTreeMap<String, String>, Error> {
    let mut ends = vec![None; checkpoint.shards().len()];
    for tensor in checkpoint.iter() {
        let end = ends[tensor.shard()].get_or_insert(u64::MAX);
        *end = tensor.range().start.min(*end);
    }
    let files = checkpoint.shards().iter().zip(ends);
    let hashes = files.filter_map(|(shard, end)| {
        let hash = hash(shard.file()?, end.unwrap_or(u64::MAX));
        let hash = hash.map_err(|error| Error::file(shard.shown(), vec![error.to_string()]));
        Some(hash.map(|hash| (name(checkpoint, shard), hash)))
    });
    hashes.collect()
}

fn hash(mut file: &std::fs::File, end: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    file.seek(SeekFrom::Start(0))?;
    let mut header = file.take(end);
    loop {
        match header.read(&mut piece)? {
            0 => return Ok(hex(hash)),
            n => hash.update(&piece[..n]),
        }
    }
}
