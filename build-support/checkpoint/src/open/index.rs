//! The tensors of several files, counted and found as those of one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Shard, Tensor};
use crate::entries::Index;
use crate::error::{Error, Result};
use crate::files::{self, Place};

/// Says of each file how many tensors are before its own.
pub(super) fn count(place: &Place, shards: &mut [Shard]) -> Result<()> {
    let mut all = 0u32;
    for shard in shards {
        shard.before = all;
        let more = u32::try_from(shard.header.entries.len()).ok();
        // The number behind the last is one as well.
        let sum = more
            .and_then(|more| all.checked_add(more))
            .filter(|&all| all < u32::MAX);
        let many = || Error::file(&place.shown, vec!["has too many tensors".to_owned()]);
        all = sum.ok_or_else(many)?;
    }
    Ok(())
}

/// The tensor that has this number among those of all shards.
pub(super) fn tensor(shards: &[Shard], number: u32) -> Option<Tensor<'_>> {
    // Files without tensors have the same count before them as the one behind them.
    let shard = shards
        .partition_point(|shard| shard.before <= number)
        .checked_sub(1)?;
    let tensor = Tensor {
        shards,
        shard: shard as u32,
        number: number - shards[shard].before,
    };
    tensor
        .entries()
        .numbers()
        .contains(&tensor.number)
        .then_some(tensor)
}

pub(super) fn name_in(shards: &[Shard], number: u32) -> &str {
    tensor(shards, number).map_or("", |tensor| tensor.name())
}

/// All tensors by name, where there are several shards; checks that shards and index agree.
pub(super) fn index(
    place: &Place,
    shards: &[Shard],
    index: Option<&files::Index>,
) -> Result<Index> {
    let mut problems = Vec::new();
    let mut all = Index::default();
    let mut twice: BTreeMap<(u32, u32), Vec<&str>> = BTreeMap::new();
    let file = |i: usize| name(&shards[i].place.path);
    if shards.len() > 1 {
        for (shard, file) in (0u32..).zip(shards) {
            let entries = &file.header.entries;
            for number in entries.numbers() {
                let name = entries.name(number);
                let number = file.before + number;
                let there = all.insert(name, number, |number| name_in(shards, number));
                if let Some(first) = there.and_then(|number| tensor(shards, number)) {
                    twice.entry((first.shard, shard)).or_default().push(name);
                }
            }
        }
    }
    for ((first, second), names) in twice {
        let one = names.iter().min().copied().unwrap_or_default();
        let others = match names.len() {
            1 => "is".to_owned(),
            n => format!("and {} more are", n - 1),
        };
        problems.push(format!(
            "`{one}` {others} in {} and in {}: where these are two checkpoints, open one of them by \
             name",
            file(first as usize).display(),
            file(second as usize).display()
        ));
    }
    let mut elsewhere: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    if let Some(files::Index {
        names, shard_of, ..
    }) = index
    {
        for (name, &number) in (0..).zip(shard_of) {
            let (name, number) = (names.get(name), number as usize);
            if shards[number].header.entries.find(name).is_none() {
                elsewhere.entry(number).or_default().push(name);
            }
        }
    }
    for (number, names) in elsewhere {
        let (are, them) = match names.len() {
            1 => ("is".to_owned(), "it"),
            n => (format!("and {} more are", n - 1), "them"),
        };
        problems.push(format!(
            "`{}` {are} not in {}, where the index puts {them}: index and file are of two \
             checkpoints, download both again",
            names.iter().min().copied().unwrap_or_default(),
            file(number).display()
        ));
    }
    if problems.is_empty() {
        return Ok(all);
    }
    problems.sort_unstable();
    let place = index.map_or(place, |index| &index.place);
    Err(Error::file(&place.shown, problems))
}

fn name(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}
