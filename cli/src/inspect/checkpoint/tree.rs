//! The tensors of a checkpoint as the tree of modules that their names are; equal ones as one.

use std::collections::{BTreeSet, HashMap};

use pycandle_build::lock;
use pycandle_checkpoint::Dtype;

use super::{Entry, Status, Sum};

/// Parts of a name; what is deeper is one part, so that no name makes a tree that a stack cannot
/// hold.
const DEEPEST: usize = 32;

/// A module, or a tensor.
#[derive(Debug, Default)]
pub struct Node {
    /// Its part of the name; of several equal ones, the set of numbers that they are.
    pub name: String,
    /// How many equal ones it stands for.
    pub count: u64,
    /// The tensor with this name; it has no children: what is named after it stands beside it.
    pub entry: Option<usize>,
    pub children: Vec<Node>,
    /// Tensors that are there, in it and below it; in one of those that it stands for.
    pub sum: Sum,
    /// Files of all that it stands for.
    pub files: BTreeSet<usize>,
}

/// The tree; the root has no name.
pub fn tree(entries: &[Entry<'_>]) -> Node {
    let mut arena = vec![Building::default()];
    for (id, entry) in entries.iter().enumerate() {
        let (mut at, mut above) = (0, 0);
        for part in entry.name.splitn(DEEPEST, '.') {
            above = at;
            at = match arena[at].index.get(part) {
                Some(&child) => child,
                None => {
                    let child = arena.len();
                    arena.push(Building {
                        name: part,
                        ..Building::default()
                    });
                    arena[at].index.insert(part, child);
                    arena[at].children.push(child);
                    child
                }
            };
        }
        // A key that nothing needs can have the name that a rename gives another: both are shown.
        match arena[at].entry {
            None => arena[at].entry = Some(id),
            Some(_) => {
                let twin = arena.len();
                let name = arena[at].name;
                arena.push(Building {
                    name,
                    entry: Some(id),
                    ..Building::default()
                });
                arena[above].children.push(twin);
            }
        }
    }
    node(&arena, 0, entries)
}

#[derive(Default)]
struct Building<'a> {
    name: &'a str,
    entry: Option<usize>,
    children: Vec<usize>,
    index: HashMap<&'a str, usize>,
}

fn node(arena: &[Building<'_>], at: usize, entries: &[Entry<'_>]) -> Node {
    let building = &arena[at];
    let mut node = Node {
        name: building.name.to_owned(),
        count: 1,
        entry: building.entry,
        ..Node::default()
    };
    for &child in &building.children {
        let mut child = self::node(arena, child, entries);
        // `weight.absmax` is a part of `weight`, not of a module with this name.
        let beside = match child.entry {
            Some(_) => std::mem::take(&mut child.children),
            None => Vec::new(),
        };
        let name = child.name.clone();
        node.children.push(child);
        node.children.extend(beside.into_iter().map(|part| Node {
            name: format!("{name}.{}", part.name),
            ..part
        }));
    }
    if let Some(entry) = building.entry.map(|id| &entries[id]) {
        let is_there = !matches!(entry.status, Status::Missing | Status::Tied);
        node.sum = Sum::default().add(u64::from(is_there), entry.bytes);
        node.files.extend(entry.place.as_ref().map(|place| place.0));
    }
    // A tensor's children are given to its parent, with their sums.
    for child in node.children.iter().filter(|_| node.entry.is_none()) {
        node.sum = node.sum.add(child.sum.tensors, child.sum.bytes);
        node.files.extend(&child.files);
    }
    node
}

/// What makes two nodes equal: their tensors, and the names and shapes of what is below.
type Shape<'a> = (
    Option<(Status, Dtype, &'a [usize])>,
    Vec<(String, u64, usize)>,
);

/// The same tree with one node for siblings that are equal but for their numbers.
pub fn grouped(mut root: Node, entries: &[Entry<'_>]) -> Node {
    group(&mut root, entries, &mut HashMap::new());
    root
}

/// Groups what is below, and returns a number that equal nodes have in common.
fn group<'a>(
    node: &mut Node,
    entries: &'a [Entry<'_>],
    shapes: &mut HashMap<Shape<'a>, usize>,
) -> usize {
    let mut kinds: HashMap<usize, usize> = HashMap::new();
    let mut kept: Vec<(Node, usize, Vec<u32>)> = Vec::new();
    for mut child in std::mem::take(&mut node.children) {
        let shape = group(&mut child, entries, shapes);
        let number = child.name.parse::<u32>().ok();
        match (number, number.and_then(|_| kinds.get(&shape))) {
            (Some(number), Some(&first)) => {
                kept[first].2.push(number);
                kept[first].0.merge(child);
            }
            (Some(number), None) => {
                kinds.insert(shape, kept.len());
                kept.push((child, shape, vec![number]));
            }
            (None, _) => kept.push((child, shape, Vec::new())),
        }
    }
    let mut below = Vec::new();
    for (mut child, shape, mut numbers) in kept {
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() > 1 {
            child.name = lock::numbers(&numbers);
        }
        below.push((child.name.clone(), child.count, shape));
        node.children.push(child);
    }
    let own = node.entry.map(|id| &entries[id]);
    let own = own.map(|entry| (entry.status, entry.dtype, &*entry.shape));
    let next = shapes.len();
    *shapes.entry((own, below)).or_insert(next)
}

impl Node {
    /// Takes the files of an equal node, which it stands for from now on.
    fn merge(&mut self, other: Node) {
        self.count += other.count;
        self.take_files(&other);
    }

    fn take_files(&mut self, other: &Node) {
        self.files.extend(&other.files);
        for (child, other) in self.children.iter_mut().zip(&other.children) {
            child.take_files(other);
        }
    }

    /// Nodes in it, itself too.
    pub fn len(&self) -> usize {
        1 + self.children.iter().map(Node::len).sum::<usize>()
    }

    /// Leaves out all but the largest so many children of each module, and all below this depth;
    /// what is left out is one node with their sums and no name.
    pub fn cut(&mut self, children: usize, depth: usize) {
        if depth == 0 {
            self.children.clear();
            return;
        }
        if self.children.len() > children {
            let mut order: Vec<usize> = (0..self.children.len()).collect();
            let bytes = |&i: &usize| {
                let child: &Node = &self.children[i];
                std::cmp::Reverse((
                    child.sum.bytes.saturating_mul(child.count),
                    child.sum.tensors,
                ))
            };
            order.sort_by_key(bytes);
            let left: BTreeSet<usize> = order.split_off(children).into_iter().collect();
            let mut rest = Node {
                count: 1,
                ..Node::default()
            };
            for (i, child) in std::mem::take(&mut self.children).into_iter().enumerate() {
                if !left.contains(&i) {
                    self.children.push(child);
                    continue;
                }
                let times = |n: u64| n.saturating_mul(child.count);
                rest.sum = rest
                    .sum
                    .add(times(child.sum.tensors), times(child.sum.bytes));
                rest.files.extend(&child.files);
            }
            rest.name = format!("and {} more", left.len());
            self.children.push(rest);
        }
        for child in &mut self.children {
            child.cut(children, depth - 1);
        }
    }
}
