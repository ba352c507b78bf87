//! Where each tensor of a file lies, so that it can be mapped and handed to a device as it is.
//!
//! Safetensors allows no hole between two tensors, so a tensor is aligned only when everything
//! before it adds up. The header is padded with spaces, which the format allows, and tensors are put
//! in an order in which sizes that do not add up come last or are filled up by small tensors. What
//! no order can do (at most one tensor of a file can have a size that is no multiple of 64) takes
//! entries of zeros between the tensors.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::entries::Kinds;

/// Alignment of every tensor in bytes: a cache line, and the widest vector register.
///
/// ```
/// assert_eq!(pycandle_checkpoint::extract::LINE, 64);
/// ```
pub const LINE: u64 = 64;
/// Alignment of tensors of at least [`LARGE`] bytes: a page of Apple's processors, which is what
/// Metal asks of a buffer over mapped memory, and a multiple of the 4 KiB of the others.
///
/// ```
/// assert_eq!(pycandle_checkpoint::extract::PAGE, 16 * 1024);
/// ```
pub const PAGE: u64 = 16 << 10;
/// Bytes from which on a tensor lies on a page of its own.
///
/// ```
/// assert_eq!(pycandle_checkpoint::extract::LARGE, 1024 * 1024);
/// ```
pub const LARGE: u64 = 1 << 20;
/// Small tensors that are tried for one gap.
const FILLERS: usize = 512;
const LINES: usize = (PAGE / LINE) as usize;

/// Bytes of a file's tensors and of their elements, of which half a million have few different ones.
#[derive(Debug, Default)]
pub(super) struct Sizes(Kinds<(u64, u64)>);

impl Sizes {
    /// Adds a tensor of so many bytes, a multiple of those of its elements.
    pub fn push(&mut self, bytes: u64, element: u64) {
        let size = (bytes, element);
        self.0.push(|other| *other == size, || size);
    }

    fn indices(&self) -> Range<u32> {
        0..self.0.len() as u32
    }

    fn bytes(&self, index: u32) -> u64 {
        self.0.get(index).0
    }

    fn element(&self, index: u32) -> u64 {
        self.0.get(index).1
    }

    fn is_large(&self, index: u32) -> bool {
        self.bytes(index) >= LARGE
    }

    fn lies_on(&self, index: u32, unit: u64) -> bool {
        self.bytes(index).is_multiple_of(unit)
    }

    /// Small tensors that leave what is behind them aligned.
    fn even(&self) -> impl Iterator<Item = u32> {
        let small = self.indices().filter(|&index| !self.is_large(index));
        small.filter(|&index| self.lies_on(index, LINE))
    }

    /// The others, in the order in which they lie behind one another.
    fn chain(&self) -> impl Iterator<Item = u32> {
        let large = || self.indices().filter(|&index| self.is_large(index));
        let whole = large().filter(|&index| self.lies_on(index, PAGE));
        let uneven = large().filter(|&index| !self.lies_on(index, PAGE));
        let uneven = uneven.filter(|&index| self.lies_on(index, LINE));
        // Wide elements first: without padding each is still aligned to its own.
        let sizes = self.0.kinds().iter();
        let elements: BTreeSet<u64> = sizes.map(|&(_, element)| element).collect();
        let odd = elements.into_iter().rev().flat_map(move |element| {
            let small = self.indices().filter(|&index| !self.is_large(index));
            let odd = large().chain(small);
            let odd = odd.filter(|&index| !self.lies_on(index, LINE));
            odd.filter(move |&index| self.element(index) == element)
        });
        whole.chain(uneven).chain(odd)
    }
}

/// One entry of a file, in the order of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The tensor of this index.
    Tensor(u32),
    /// So many zeros that align what follows: less than a page of them.
    Padding(u32),
}

/// The order of a file's entries, and where its data has to start; what has no bytes is one of them. Half a million tensors are an
/// ordinary file, so that nothing is kept that follows from their sizes.
#[derive(Debug, Default)]
pub(super) struct Layout {
    sizes: Sizes,
    padding: bool,
    /// Small tensors that fill a gap: which of the chain's tensors each is before, and its index.
    fillers: Vec<(u32, u32)>,
    /// Number of padding entries.
    pub paddings: usize,
    /// Bytes of data.
    pub len: u64,
    /// The data starts at a byte of the file that is this much past a multiple of `unit`.
    pub start: u64,
    pub unit: u64,
}

impl Layout {
    /// Lays out tensors of these sizes.
    ///
    /// Without `padding`, tensors that no order aligns lie at a multiple of their element.
    pub fn new(sizes: Sizes, padding: bool) -> Self {
        let (mut fillers, mut paddings, mut end) = (Vec::new(), 0, 0);
        let mut small = Fillers::new(&sizes);
        for (number, index) in (0u32..).zip(sizes.chain()) {
            let gap = gap(&sizes, index, end);
            if gap.is_multiple_of(LINE) {
                for filler in small.take((gap / LINE) as usize) {
                    fillers.push((number, filler));
                    end += sizes.bytes(filler);
                }
            }
            let zeros = zeros(&sizes, index, end, padding);
            paddings += usize::from(zeros > 0);
            end += zeros + sizes.bytes(index);
        }
        let filled: u64 = fillers.iter().map(|&(_, index)| sizes.bytes(index)).sum();
        // The header makes up for what small tensors take before the chain.
        let before = sizes.even().map(|index| sizes.bytes(index)).sum::<u64>() - filled;
        let unit = match sizes.0.kinds().iter().any(|&(bytes, _)| bytes >= LARGE) {
            true => PAGE,
            false => LINE,
        };
        Self {
            sizes,
            padding,
            fillers,
            paddings,
            len: before + end,
            start: before.next_multiple_of(unit) - before,
            unit,
        }
    }

    /// All entries, one behind the other.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut taken: Vec<u32> = self.fillers.iter().map(|&(_, index)| index).collect();
        taken.sort_unstable();
        let before = self.sizes.even();
        let before = before.filter(move |index| taken.binary_search(index).is_err());
        let mut fillers = self.fillers.as_slice();
        let mut end = 0;
        let chain = (0u32..).zip(self.sizes.chain());
        let chain = chain.flat_map(move |(number, index)| {
            let here = fillers.partition_point(|&(other, _)| other <= number);
            let (here, rest) = fillers.split_at(here);
            fillers = rest;
            let filled: u64 = here.iter().map(|&(_, index)| self.sizes.bytes(index)).sum();
            end += filled;
            // Less than a page.
            let zeros = zeros(&self.sizes, index, end, self.padding);
            end += zeros + self.sizes.bytes(index);
            let zeros = (zeros > 0).then_some(Entry::Padding(zeros as u32));
            let fillers = here.iter().map(|&(_, index)| Entry::Tensor(index));
            fillers.chain(zeros).chain([Entry::Tensor(index)])
        });
        before.map(Entry::Tensor).chain(chain)
    }
}

/// Bytes from here to where this tensor is aligned; byte 0 is on a page.
fn gap(sizes: &Sizes, index: u32, end: u64) -> u64 {
    let unit = if sizes.is_large(index) { PAGE } else { LINE };
    end.next_multiple_of(unit) - end
}

/// Zeros that are written in that gap.
fn zeros(sizes: &Sizes, index: u32, end: u64, padding: bool) -> u64 {
    if padding { gap(sizes, index, end) } else { 0 }
}

/// Small tensors of whole lines, which fill gaps before large ones.
struct Fillers<'a> {
    sizes: &'a Sizes,
    /// All that have not been looked at yet.
    rest: Range<u32>,
    /// The first of those whose size is no multiple of a page.
    useful: Vec<u32>,
    /// Gaps, in lines, that what is left cannot fill.
    hopeless: [bool; LINES],
}

impl<'a> Fillers<'a> {
    fn new(sizes: &'a Sizes) -> Self {
        Self {
            sizes,
            rest: sizes.indices(),
            useful: Vec::with_capacity(FILLERS),
            hopeless: [false; LINES],
        }
    }

    fn lines(&self, index: u32) -> usize {
        (self.sizes.bytes(index) % PAGE / LINE) as usize
    }

    /// Tensors that are this many lines long, but for whole pages; none when there are none.
    fn take(&mut self, gap: usize) -> Vec<u32> {
        if gap == 0 || self.hopeless[gap] {
            return Vec::new();
        }
        let sizes = self.sizes;
        let is_useful = |index: &u32| {
            let is_even = !sizes.is_large(*index) && sizes.lies_on(*index, LINE);
            is_even && !sizes.lies_on(*index, PAGE)
        };
        let useful = self.rest.by_ref().filter(is_useful);
        self.useful.extend(useful.take(FILLERS - self.useful.len()));
        // For each number of lines, the last filler that reaches it and the number before it.
        let mut reached: [Option<(usize, usize)>; LINES] = [None; LINES];
        for at in 0..self.useful.len() {
            let lines = self.lines(self.useful[at]);
            let known = reached;
            for from in (0..LINES).filter(|&n| n == 0 || known[n].is_some()) {
                let to = (from + lines) % LINES;
                if to != 0 && reached[to].is_none() {
                    reached[to] = Some((at, from));
                }
            }
            if reached[gap].is_some() {
                return self.remove(gap, &reached);
            }
        }
        self.hopeless[gap] = true;
        Vec::new()
    }

    fn remove(&mut self, gap: usize, reached: &[Option<(usize, usize)>]) -> Vec<u32> {
        let mut taken = Vec::new();
        let mut lines = gap;
        // Each step goes back to an earlier filler, so positions fall and stay valid.
        while let Some((at, before)) = reached[lines].filter(|_| lines != 0) {
            taken.push(self.useful.remove(at));
            lines = before;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sizes of tensors, of bytes where nothing is said of elements.
    fn sizes(bytes: &[u64], elements: &[u64]) -> Sizes {
        let mut sizes = Sizes::default();
        for (index, &bytes) in bytes.iter().enumerate() {
            sizes.push(bytes, elements.get(index).copied().unwrap_or(1));
        }
        sizes
    }

    /// Lays out tensors of these sizes; checks what always holds; returns the padding entries.
    #[track_caller]
    fn check(bytes: &[u64], padding: bool) -> usize {
        let layout = Layout::new(sizes(bytes, &[]), padding);
        let (mut at, mut seen, mut paddings) = (0, vec![0; bytes.len()], 0);
        for entry in layout.entries() {
            at += match entry {
                Entry::Tensor(index) => {
                    let index = index as usize;
                    seen[index] += 1;
                    let unit = if bytes[index] >= LARGE { PAGE } else { LINE };
                    assert!(
                        !padding || bytes[index] == 0 || (layout.start + at).is_multiple_of(unit),
                        "{} bytes at {at} of {bytes:?}",
                        bytes[index]
                    );
                    bytes[index]
                }
                Entry::Padding(len) => {
                    paddings += 1;
                    let len = u64::from(len);
                    assert!(padding && 0 < len && len < PAGE);
                    len
                }
            };
        }
        assert_eq!((at, paddings), (layout.len, layout.paddings));
        assert!(layout.start < layout.unit);
        assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
        paddings
    }

    #[test]
    fn order_alone_aligns_what_it_can() {
        assert_eq!(check(&[], true), 0);
        assert_eq!(check(&[64, 4, LARGE, 128], true), 0);
        // Two embeddings of half a page too much, and a norm that fills the gap between them.
        let embedding = LARGE + PAGE / 2;
        assert_eq!(check(&[embedding, 64, embedding, PAGE / 2], true), 0);
        assert_eq!(
            check(&[embedding, LARGE, embedding, PAGE / 4, PAGE / 4], true),
            0
        );
        assert_eq!(check(&[embedding, embedding], true), 1);
        // More small tensors than are tried for one gap.
        let many: Vec<u64> = std::iter::repeat_n(embedding, 2 * FILLERS).collect();
        let small = std::iter::repeat_n(PAGE / 2, 2 * FILLERS);
        assert_eq!(
            check(&many.into_iter().chain(small).collect::<Vec<_>>(), true),
            0
        );
        // Small tensors before the first large one, which the header makes up for.
        assert_eq!(check(&[192, LARGE, 64, 320], true), 0);
    }

    #[test]
    fn odd_sizes_take_padding_but_for_the_last() {
        assert_eq!(check(&[8, 8, 8, 64], true), 2);
        assert_eq!(check(&[LARGE + 1, LARGE + 2, 3], true), 2);
        assert_eq!(check(&[8, 8, 8, 64], false), 0);
    }

    #[test]
    fn without_padding_elements_are_aligned() {
        let (bytes, elements) = ([2, 24, 6, 4, 64], [1, 8, 2, 4, 1]);
        let layout = Layout::new(sizes(&bytes, &elements), false);
        let mut at = layout.start;
        for entry in layout.entries() {
            let Entry::Tensor(index) = entry else {
                panic!("padding");
            };
            assert!(at.is_multiple_of(elements[index as usize]));
            at += bytes[index as usize];
        }
    }

    proptest! {
        #[test]
        fn all_sizes_are_aligned(
            small in prop::collection::vec(0..2000u64, 0..40),
            lines in prop::collection::vec(0..40u64, 0..40),
            large in prop::collection::vec(LARGE..LARGE + 3 * PAGE, 0..8),
            pages in prop::collection::vec(0..600u64, 0..8),
        ) {
            let lines = lines.into_iter().map(|n| n * LINE);
            let pages = pages.into_iter().map(|n| LARGE + n * LINE);
            let bytes: Vec<u64> = small.into_iter().chain(lines).chain(large).chain(pages).collect();
            let uneven = bytes.iter().filter(|&n| !n.is_multiple_of(if *n >= LARGE { PAGE } else { LINE }));
            let most = uneven.count();
            prop_assert!(check(&bytes, true) <= most);
            check(&bytes, false);
        }
    }
}
