//! What a model needs of a checkpoint.

use std::borrow::Cow;
use std::fmt;

use crate::dtype::Dtype;
use crate::entries::Index;

/// A tensor that the model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need<'a> {
    /// Its name in the trace.
    pub name: Cow<'a, str>,
    /// Its shape in the trace.
    pub shape: &'a [usize],
    /// Its dtype in the trace.
    pub dtype: Dtype,
    /// The first of the needs that are the same tensor, as its index; `None` for that one.
    pub tied_to: Option<usize>,
}

/// Every tensor that a model needs, by its number: a list, or what knows where each part of one is.
///
/// ```
/// use pycandle_checkpoint::{Dtype, Need, Needs};
/// let need = Need { name: "fc.weight".into(), shape: &[3, 4], dtype: Dtype::F32, tied_to: None };
/// let needs: &dyn Needs = &[need.clone()];
/// assert_eq!((needs.len(), needs.get(0), needs.iter().count()), (1, need, 1));
/// assert_eq!(needs.by_name().find("fc.weight"), Some(0));
/// ```
#[expect(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait Needs: fmt::Debug + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// The one of this number.
    ///
    /// # Panics
    /// May panic where there are not so many.
    fn get(&self, number: usize) -> Need<'_>;
}

impl Need<'_> {
    /// The same, with a name that lies here.
    fn borrowed(&self) -> Need<'_> {
        Need {
            name: Cow::Borrowed(&self.name),
            ..*self
        }
    }
}

impl<'n> dyn Needs + 'n {
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Need<'_>> + Clone {
        (0..self.len()).map(|number| self.get(number))
    }

    /// All of them, to be found by their names.
    pub fn by_name(&self) -> ByName<'_> {
        ByName::new(self)
    }
}

impl<T: Needs> Needs for &T {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, number: usize) -> Need<'_> {
        (**self).get(number)
    }
}

impl Needs for Vec<Need<'_>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, number: usize) -> Need<'_> {
        self[number].borrowed()
    }
}

impl<const N: usize> Needs for [Need<'_>; N] {
    fn len(&self) -> usize {
        N
    }

    fn get(&self, number: usize) -> Need<'_> {
        self[number].borrowed()
    }
}

/// Needs as they are found by their names: 6 to 11 bytes for each.
///
/// ```
/// use pycandle_checkpoint::{ByName, Dtype, Need, Needs};
/// let need = |name: &'static str| Need {
///     name: name.into(),
///     shape: &[4],
///     dtype: Dtype::F32,
///     tied_to: None,
/// };
/// let needs: &dyn Needs = &[need("a"), need("b")];
/// let by_name: ByName = needs.by_name();
/// assert_eq!((by_name.find("b"), by_name.find("c")), (Some(1), None));
/// assert!(by_name.is_unique());
/// ```
#[derive(Debug)]
pub struct ByName<'n> {
    needs: &'n dyn Needs,
    index: Index,
    is_unique: bool,
}

impl<'n> ByName<'n> {
    fn new(needs: &'n dyn Needs) -> Self {
        let mut index = Index::with_capacity(needs.len());
        let mut is_unique = true;
        // Names of manifests and headers are counted in 32 bits.
        for (number, need) in (0u32..).zip(needs.iter()) {
            let same = index.insert(&need.name, number, |number| name(needs, number));
            is_unique &= same.is_none();
        }
        Self {
            needs,
            index,
            is_unique,
        }
    }

    /// The number of the need of this name, of the first where there are several.
    pub fn find(&self, name: &str) -> Option<usize> {
        let name_of = |number| self::name(self.needs, number);
        Some(self.index.find(name, name_of)? as usize)
    }

    /// Whether no two have one name.
    pub fn is_unique(&self) -> bool {
        self.is_unique
    }
}

fn name(needs: &dyn Needs, number: u32) -> Cow<'_, str> {
    needs.get(number as usize).name
}
