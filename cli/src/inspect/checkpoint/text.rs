//! A checkpoint as text: sums, formats, files, and modules with equal ones as one.

use std::collections::BTreeSet;
use std::fmt::Write;

use pycandle_checkpoint::escaped;

use super::super::text::{bytes, columns, grouped as digits};
use super::tree::{self, Node};
use super::{Entry, Status, Sum, View};
use crate::outcome;

/// Names of one kind that are spelled out.
const SHOWN: usize = 12;
/// Parts of names that are longer are cut: all rows are as wide as the widest.
const LONGEST: usize = 80;

/// The whole checkpoint.
pub fn view(view: &View<'_>) -> String {
    let total = view.total();
    let mut text = format!("checkpoint {}, {}\n", escaped(&view.place), sum(total));
    match (&view.lock, view.from_lock) {
        (_, true) => text.push_str("  the weights are absent, this is what their lock says\n"),
        (Some(lock), false) => {
            let _ = writeln!(text, "  as its lock {} says", escaped(lock));
        }
        (None, false) => {}
    }
    if view.has_model {
        text.push_str("\nof what the model needs\n");
        let kinds = [
            Status::Needed,
            Status::Tied,
            Status::Missing,
            Status::Unneeded,
        ];
        let rows: Vec<_> = kinds
            .map(|status| {
                let of = view.sum(status);
                let size = if of.bytes > 0 {
                    bytes(of.bytes.into())
                } else {
                    String::new()
                };
                [
                    format!("  {}", status.name()),
                    count(of.tensors),
                    size,
                    String::new(),
                ]
            })
            .into();
        columns(&mut text, &rows);
    }
    names(&mut text, view);
    text.push_str("\nformats\n");
    let formats = view.formats().into_iter();
    let rows: Vec<_> = formats
        .map(|(dtype, of)| share(dtype.to_string(), of, total))
        .collect();
    columns(&mut text, &rows);
    if view.files.len() > 1 {
        text.push_str("\nfiles\n");
        let files = view.files.iter().enumerate();
        let rows: Vec<_> = files
            .map(|(i, file)| {
                let of = Sum {
                    tensors: file.tensors,
                    bytes: file.tensor_bytes,
                };
                share(format!("{}  {}", i + 1, file.name), of, total)
            })
            .collect();
        columns(&mut text, &rows);
    }
    text.push_str("\nmodules of the checkpoint\n");
    let root = tree::grouped(tree::tree(&view.entries), &view.entries);
    let mut rows = Vec::new();
    let many = view.files.len() > 1;
    module(
        &root,
        "(root)".to_owned(),
        1,
        &view.entries,
        many,
        &mut rows,
    );
    columns(&mut text, &rows);
    if let Some(mismatch) = view.mismatch {
        let _ = writeln!(text, "\n{}", outcome::report(mismatch));
    }
    text
}

fn sum(sum: Sum) -> String {
    format!("{}, {}", count(sum.tensors), bytes(sum.bytes.into()))
}

fn count(tensors: u64) -> String {
    match tensors {
        1 => "1 tensor".to_owned(),
        n => format!("{} tensors", digits(n.into())),
    }
}

fn share(name: String, of: Sum, total: Sum) -> [String; 4] {
    let percent = of.bytes as f64 / total.bytes.max(1) as f64 * 100.0;
    [
        format!("  {name}"),
        count(of.tensors),
        bytes(of.bytes.into()),
        format!("{percent:.1} %"),
    ]
}

/// The first names that are not simply needed.
fn names(text: &mut String, view: &View<'_>) {
    for status in [Status::Tied, Status::Missing, Status::Unneeded] {
        let entries = view.entries.iter().filter(|entry| entry.status == status);
        let count = entries.clone().count();
        if count == 0 {
            continue;
        }
        let _ = writeln!(text, "\n{}", status.name());
        for entry in entries.take(SHOWN) {
            let twin = entry
                .key
                .map(|key| format!(" is {}", escaped(key)))
                .unwrap_or_default();
            let _ = writeln!(text, "  {}{twin}", escaped(&entry.name));
        }
        if count > SHOWN {
            let _ = writeln!(text, "  and {} more", count - SHOWN);
        }
    }
}

fn module(
    node: &Node,
    name: String,
    depth: usize,
    entries: &[Entry<'_>],
    with_files: bool,
    rows: &mut Vec<[String; 4]>,
) {
    let each = if node.count > 1 { " each" } else { "" };
    let what = match node.entry.map(|id| &entries[id]) {
        Some(entry) => {
            let status = match entry.status {
                Status::Stored | Status::Needed => String::new(),
                other => format!(", {}", other.name()),
            };
            format!("{} {:?}{status}", entry.dtype, entry.shape)
        }
        None => String::new(),
    };
    let size = match node.sum.bytes {
        0 => String::new(),
        n => format!("{}{each}", bytes(n.into())),
    };
    let files = match with_files && node.entry.is_none() {
        true => files(&node.files),
        false => String::new(),
    };
    rows.push([format!("{}{name}", "  ".repeat(depth)), what, size, files]);
    for child in &node.children {
        let dot = if child.children.is_empty() && child.entry.is_some() {
            "."
        } else {
            ""
        };
        let mut name = format!("{dot}{}", escaped(&child.name));
        if name.chars().count() > LONGEST {
            name = name.chars().take(LONGEST - 1).chain(['…']).collect();
        }
        module(child, name, depth + 1, entries, with_files, rows);
    }
}

/// `in file 1`, `in files {1..3}`.
fn files(files: &BTreeSet<usize>) -> String {
    let numbers: Vec<u32> = files
        .iter()
        .filter_map(|&file| u32::try_from(file + 1).ok())
        .collect();
    match &*numbers {
        [] => String::new(),
        [only] => format!("in file {only}"),
        all => format!("in files {}", pycandle_build::lock::numbers(all)),
    }
}
