//! Where each tensor of a file lies, so that it can be mapped and handed to a device as it is.
//!
//! Safetensors allows no hole between two tensors, so a tensor is aligned only when everything
//! before it adds up. The header is padded with spaces, which the format allows, and tensors are put
//! in an order in which sizes that do not add up come last or are filled up by small tensors. What
//! no order can do (at most one tensor of a file can have a size that is no multiple of 64) takes
//! entries of zeros between the tensors.

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

/// One entry of a file, in the order of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The tensor of this index.
    Tensor(u32),
    /// So many zeros that align what follows: less than a page of them.
    Padding(u32),
}

/// The order of a file's entries, and where its data has to start.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Half a million tensors are an ordinary file, so that nothing is kept that follows from sizes.
    order: Vec<u32>,
    /// How many tensors are before each padding, and its bytes.
    paddings: Vec<(u32, u32)>,
    /// Bytes of data.
    pub len: u64,
    /// The data starts at a byte of the file that is this much past a multiple of `unit`.
    pub start: u64,
    pub unit: u64,
}

impl Layout {
    /// All entries, one behind the other.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let mut paddings = self.paddings.iter().peekable();
        (0u32..).zip(&self.order).flat_map(move |(at, &index)| {
            let padding = paddings.next_if(|(before, _)| *before == at);
            let padding = padding.map(|&(_, len)| Entry::Padding(len));
            padding.into_iter().chain([Entry::Tensor(index)])
        })
    }

    /// Number of padding entries.
    pub fn paddings(&self) -> usize {
        self.paddings.len()
    }
}

/// Lays out tensors of these bytes, each a multiple of those of its elements.
///
/// Without `padding`, tensors that no order aligns lie at a multiple of their element.
pub(super) fn layout(sizes: &[u64], element: impl Fn(u32) -> u64, padding: bool) -> Layout {
    let bytes = |index: &u32| sizes[*index as usize];
    let lies_on = |index: &u32, unit: u64| bytes(index).is_multiple_of(unit);
    let all = || 0..sizes.len() as u32;
    let is_large = |index: &u32| bytes(index) >= LARGE;
    let (whole, rest): (Vec<_>, Vec<_>) = all().filter(is_large).partition(|i| lies_on(i, PAGE));
    let (uneven, mut odd): (Vec<_>, Vec<_>) = rest.into_iter().partition(|i| lies_on(i, LINE));
    let is_small = |index: &u32| !is_large(index);
    let (even, odd_small): (Vec<_>, Vec<_>) =
        all().filter(is_small).partition(|i| lies_on(i, LINE));
    odd.extend(odd_small);
    // Wide elements first: without padding each is still aligned to its own.
    odd.sort_by_cached_key(|&index| std::cmp::Reverse(element(index)));

    let mut fillers = Fillers::new(sizes, even);
    let mut chain = Placed::new(sizes, padding);
    for index in whole.into_iter().chain(uneven).chain(odd) {
        chain.place(index, &mut fillers);
    }
    // The header makes up for what small tensors take before the first large one.
    let mut all = Placed::new(sizes, padding);
    let left = fillers.left();
    all.order.reserve_exact(left.len() + chain.order.len());
    for index in left {
        all.push(index);
    }
    let unit = match sizes.iter().any(|&bytes| bytes >= LARGE) {
        true => PAGE,
        false => LINE,
    };
    let start = all.len.next_multiple_of(unit) - all.len;
    all.append(chain);
    Layout {
        order: all.order,
        paddings: all.paddings,
        len: all.len,
        start,
        unit,
    }
}

/// Entries that follow each other; byte 0 is on a page.
struct Placed<'a> {
    sizes: &'a [u64],
    padding: bool,
    order: Vec<u32>,
    paddings: Vec<(u32, u32)>,
    len: u64,
}

impl<'a> Placed<'a> {
    fn new(sizes: &'a [u64], padding: bool) -> Self {
        Self {
            sizes,
            padding,
            order: Vec::new(),
            paddings: Vec::new(),
            len: 0,
        }
    }

    fn push(&mut self, index: u32) {
        self.order.push(index);
        self.len += self.sizes[index as usize];
    }

    /// Adds a tensor at its alignment: after small tensors that fill the gap, else after zeros.
    fn place(&mut self, index: u32, fillers: &mut Fillers) {
        let unit = match self.sizes[index as usize] {
            LARGE.. => PAGE,
            _ => LINE,
        };
        let gap = self.len.next_multiple_of(unit) - self.len;
        if gap.is_multiple_of(LINE) {
            for filler in fillers.take((gap / LINE) as usize) {
                self.push(filler);
            }
        }
        let len = self.len.next_multiple_of(unit) - self.len;
        if len > 0 && self.padding {
            self.len += len;
            // Less than a page, behind tensors that 32 bits count.
            self.paddings.push((self.order.len() as u32, len as u32));
        }
        self.push(index);
    }

    fn append(&mut self, other: Self) {
        self.len += other.len;
        let before = self.order.len() as u32;
        let paddings = other.paddings.into_iter();
        self.paddings
            .extend(paddings.map(|(at, len)| (before + at, len)));
        self.order.extend(other.order);
    }
}

/// Small tensors of whole lines, which fill gaps before large ones.
struct Fillers<'a> {
    sizes: &'a [u64],
    /// Those whose size is no multiple of a page.
    useful: Vec<u32>,
    others: Vec<u32>,
    /// Gaps, in lines, that what is left cannot fill.
    hopeless: [bool; LINES],
}

impl<'a> Fillers<'a> {
    fn new(sizes: &'a [u64], small: Vec<u32>) -> Self {
        let (useful, others) = small
            .into_iter()
            .partition(|&index| !sizes[index as usize].is_multiple_of(PAGE));
        Self {
            sizes,
            useful,
            others,
            hopeless: [false; LINES],
        }
    }

    fn lines(&self, index: u32) -> usize {
        (self.sizes[index as usize] % PAGE / LINE) as usize
    }

    /// Tensors that are this many lines long, but for whole pages; none when there are none.
    fn take(&mut self, gap: usize) -> Vec<u32> {
        if gap == 0 || self.hopeless[gap] {
            return Vec::new();
        }
        // For each number of lines, the last filler that reaches it and the number before it.
        let mut reached: [Option<(usize, usize)>; LINES] = [None; LINES];
        for at in 0..self.useful.len().min(FILLERS) {
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

    fn left(self) -> Vec<u32> {
        let mut left = self.useful;
        left.extend(self.others);
        left.sort_unstable();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lays out f32 tensors of these sizes; checks what always holds; returns the padding entries.
    #[track_caller]
    fn check(bytes: &[u64], padding: bool) -> usize {
        let layout = layout(bytes, |_| 1, padding);
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
        assert_eq!((at, paddings), (layout.len, layout.paddings()));
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
        let layout = layout(&bytes, |index| elements[index as usize], false);
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
