//! The tensors of a file by name.
//!
//! Half a million are an ordinary input: names lie one behind the other in one text, dtypes and shapes
//! that many tensors have are kept once, and a tensor takes its name, 16 bytes, and its place in the
//! index by which it is found.

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::dtype::Dtype;

/// What is said of the second entry of a name.
pub(crate) const TWICE: &str = " is listed twice";
/// What is said of an entry beyond what 32 bits can count.
const FULL: &str = " is one of too many";
/// Kinds among which that of the next tensor is looked for: those of a few layers.
const RECENT: usize = 64;

/// Distinct texts, numbered in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    text: String,
    /// Where each ends in it.
    ends: Vec<u32>,
    index: Index,
}

impl Texts {
    /// Adds a text.
    ///
    /// # Errors
    /// What is to be said of one that is there already, or has no room.
    pub fn add(&mut self, text: &str) -> Result<(), &'static str> {
        let end = u32::try_from(self.text.len() + text.len()).map_err(|_| FULL)?;
        let number = u32::try_from(self.ends.len()).map_err(|_| FULL)?;
        let Self {
            text: all,
            ends,
            index,
        } = self;
        if index
            .insert(text, number, |number| part(all, ends, number))
            .is_some()
        {
            return Err(TWICE);
        }
        all.push_str(text);
        ends.push(end);
        Ok(())
    }

    pub fn find(&self, text: &str) -> Option<u32> {
        self.index.find(text, |number| self.get(number))
    }

    pub fn get(&self, number: u32) -> &str {
        part(&self.text, &self.ends, number)
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }
}

/// The part of a text with this number, of those that end there.
fn part<'t>(text: &'t str, ends: &[u32], number: u32) -> &'t str {
    let end = |number: usize| ends.get(number).map_or(0, |&end| end as usize);
    let number = number as usize;
    let start = number.checked_sub(1).map_or(0, end);
    text.get(start..end(number)).unwrap_or_default()
}

/// Numbers of texts that are somewhere else, by what they say: a hash table without keys or hashes.
#[derive(Debug, Default)]
pub(crate) struct Index {
    slots: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    /// One that has room for so many.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            slots: HashTable::with_capacity(capacity),
            hasher: RandomState::default(),
        }
    }

    /// The number of this text, where `get` gives that of each number.
    pub fn find<T: AsRef<str>>(&self, text: &str, get: impl Fn(u32) -> T) -> Option<u32> {
        let is_it = |&number: &u32| get(number).as_ref() == text;
        self.slots.find(self.hasher.hash_one(text), is_it).copied()
    }

    /// Adds a text by its number; the one that says the same where there is one already.
    pub fn insert<T: AsRef<str>>(
        &mut self,
        text: &str,
        number: u32,
        get: impl Fn(u32) -> T,
    ) -> Option<u32> {
        let Self { slots, hasher } = self;
        let is_it = |&number: &u32| get(number).as_ref() == text;
        let hash = |&number: &u32| hasher.hash_one(get(number).as_ref());
        match slots.entry(hasher.hash_one(text), is_it, hash) {
            Entry::Occupied(there) => Some(*there.get()),
            Entry::Vacant(free) => {
                free.insert(number);
                None
            }
        }
    }
}

/// A text of JSON, borrowed where it has no escapes; `Cow` by itself is always a copy.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// Values by their numbers, of which many are alike: what each is takes 4 bytes.
#[derive(Debug)]
pub(crate) struct Kinds<T> {
    kinds: Vec<T>,
    kind_of: Vec<u32>,
}

impl<T> Kinds<T> {
    /// Adds one of the last kinds of which this holds, or a new one.
    pub fn push(&mut self, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) {
        let recent = self.kinds.len().saturating_sub(RECENT);
        let known = self.kinds[recent..].iter().position(is_it);
        let kind = known.map_or(self.kinds.len(), |kind| recent + kind);
        if known.is_none() {
            self.kinds.push(new());
        }
        // There are no more kinds than tensors, which are counted in 32 bits.
        self.kind_of.push(kind as u32);
    }

    pub fn get(&self, number: u32) -> &T {
        &self.kinds[self.kind_of[number as usize] as usize]
    }

    #[cfg(feature = "data")]
    pub fn len(&self) -> usize {
        self.kind_of.len()
    }

    /// Each kind once, or a few times.
    #[cfg(feature = "data")]
    pub fn kinds(&self) -> &[T] {
        &self.kinds
    }
}

impl<T> Default for Kinds<T> {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            kind_of: Vec::new(),
        }
    }
}

/// The tensors of a file, numbered in the order of its header.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    names: Texts,
    /// Byte of the file at which each starts.
    starts: Vec<u64>,
    kinds: Kinds<Kind>,
    /// The shapes of all kinds, one after another.
    dims: Vec<usize>,
}

/// What many tensors have in common.
#[derive(Debug)]
struct Kind {
    dtype: Dtype,
    /// Where its shape lies in [`Entries::dims`].
    shape: std::ops::Range<usize>,
    bytes: u64,
}

impl Entries {
    /// Adds a tensor; `bytes` is what its dtype and shape take.
    ///
    /// # Errors
    /// What is to be said of a name that is there already, or has no room.
    pub fn insert(
        &mut self,
        name: &str,
        (dtype, shape): (Dtype, &[usize]),
        start: u64,
        bytes: u64,
    ) -> Result<(), &'static str> {
        self.names.add(name)?;
        let Self { kinds, dims, .. } = self;
        let first = dims.len();
        dims.extend_from_slice(shape);
        let is_kind = |kind: &Kind| {
            (kind.dtype, kind.bytes) == (dtype, bytes) && dims[kind.shape.clone()] == *shape
        };
        let mut is_new = false;
        kinds.push(is_kind, || {
            is_new = true;
            Kind {
                dtype,
                shape: first..dims.len(),
                bytes,
            }
        });
        if !is_new {
            dims.truncate(first);
        }
        self.starts.push(start);
        Ok(())
    }

    /// Counts what starts from another byte.
    pub fn move_by(&mut self, bytes: u64) {
        for start in &mut self.starts {
            *start += bytes;
        }
    }

    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.find(name)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// All numbers.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        0..self.len() as u32
    }

    pub fn name(&self, number: u32) -> &str {
        self.names.get(number)
    }

    pub fn dtype(&self, number: u32) -> Dtype {
        self.kind(number).dtype
    }

    pub fn shape(&self, number: u32) -> &[usize] {
        &self.dims[self.kind(number).shape.clone()]
    }

    pub fn range(&self, number: u32) -> std::ops::Range<u64> {
        let start = self.starts[number as usize];
        start..start + self.kind(number).bytes
    }

    fn kind(&self, number: u32) -> &Kind {
        self.kinds.get(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_found_and_no_other() {
        let texts: Vec<String> = (0..5000).map(|i| format!("{}.{}", i % 7, i)).collect();
        let mut all = Texts::default();
        assert_eq!(all.find("0.0"), None);
        for text in &texts {
            assert_eq!(all.add(text), Ok(()));
        }
        assert_eq!(all.add(""), Ok(()));
        for (number, text) in (0..).zip(&texts) {
            assert_eq!(all.find(text), Some(number));
            assert_eq!(all.get(number), text);
            assert_eq!(all.add(text), Err(TWICE));
        }
        assert_eq!((all.find(""), all.find("0.1")), (Some(5000), None));
        assert_eq!((all.len(), all.get(5001)), (5001, ""));
    }

    #[test]
    fn dtypes_and_shapes_are_kept_once() {
        let mut entries = Entries::default();
        let kinds = [(Dtype::U8, &[2, 3][..], 6), (Dtype::F32, &[], 4)];
        for number in 0..100 {
            let (dtype, shape, bytes) = kinds[number % 2];
            let start = 100 * number as u64;
            let added = entries.insert(&number.to_string(), (dtype, shape), start, bytes);
            assert_eq!(added, Ok(()));
        }
        entries.move_by(8);
        assert_eq!((entries.kinds.kinds().len(), entries.dims.len()), (2, 2));
        for number in entries.numbers() {
            let (dtype, shape, bytes) = kinds[number as usize % 2];
            assert_eq!(
                (entries.dtype(number), entries.shape(number)),
                (dtype, shape)
            );
            let start = 100 * u64::from(number) + 8;
            assert_eq!(entries.range(number), start..start + bytes);
        }
        let again = entries.insert("7", (Dtype::U8, &[]), 0, 0);
        assert_eq!((again, entries.len()), (Err(TWICE), 100));
    }
}
