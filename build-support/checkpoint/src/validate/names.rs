//! Names with numbers in them: `model.layers.3.mlp` is `model.layers.*.mlp` with a 3.

use std::collections::HashMap;
use std::fmt::Write;

/// The names of needs and the keys that a rename gives them.
///
/// ```
/// use pycandle_checkpoint::Names;
/// let names = Names::new(&[("layers.*.fc.weight", "h.*.linear.weight"), ("head", "lm_head")]);
/// assert_eq!(names.key("layers.3.fc.weight").as_deref(), Some("h.3.linear.weight"));
/// assert_eq!(names.key("head").as_deref(), Some("lm_head"));
/// assert_eq!(names.key("norm.weight"), None);
///
/// // How the two templates are made of a name and its key:
/// let (need, numbers) = Names::all_numbers("layers.3.fc.weight");
/// assert_eq!((&*need, &*numbers), ("layers.*.fc.weight", &[3][..]));
/// let key = Names::with_numbers("h.3.linear.weight", &numbers);
/// assert_eq!(key.as_deref(), Some("h.*.linear.weight"));
/// assert_eq!(Names::first_number("layers.3.experts.0.up").0, "layers.*.experts.0.up");
/// ```
#[derive(Debug)]
pub struct Names<'a>(HashMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    /// The renames of [`Expected`](crate::Expected).
    pub fn new(renames: &[(&'a str, &'a str)]) -> Self {
        Self(renames.iter().copied().collect())
    }

    /// The key of a need; `None` when nothing renames it. A name by itself goes before a template,
    /// one in which every number is a `*` before one in which only the first is.
    pub fn key(&self, need: &str) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        if let Some(&key) = self.0.get(need) {
            return Some(key.to_owned());
        }
        [Self::all_numbers, Self::first_number]
            .into_iter()
            .find_map(|template| {
                let (template, numbers) = template(need);
                let key = self.0.get(template.as_str())?;
                Some(join(key, &numbers))
            })
    }

    /// A name with `*` for every segment that is a number, and those numbers.
    pub fn all_numbers(name: &str) -> (String, Vec<u32>) {
        split(name)
    }

    /// A name with `*` for the first segment that is a number, and that number.
    pub fn first_number(name: &str) -> (String, Vec<u32>) {
        split_first(name, 1)
    }

    /// The template of which [`Names::key`] makes this key with these numbers: its own numbers are
    /// `*` as far as they are these, in order, and stay what they are otherwise. `None` where one of
    /// these is not in it.
    pub fn with_numbers(key: &str, numbers: &[u32]) -> Option<String> {
        if key.contains('*') {
            return None;
        }
        let mut left = numbers.iter().peekable();
        let segments = key.split('.').map(|segment| {
            let is_next = number(segment).is_some_and(|n| left.next_if_eq(&&n).is_some());
            if is_next { "*" } else { segment }
        });
        let template = segments.collect::<Vec<_>>().join(".");
        left.peek().is_none().then_some(template)
    }
}

/// A name with `*` for every segment that is a number, and those numbers. A name with a `*` of its
/// own has none.
pub(crate) fn split(name: &str) -> (String, Vec<u32>) {
    split_first(name, usize::MAX)
}

/// Writes the template that [`split`] gives over what is there; `false` for a name with a `*` of its
/// own.
pub(crate) fn write_template(name: &str, template: &mut String) -> bool {
    template.clear();
    for (i, segment) in name.split('.').enumerate() {
        if i > 0 {
            template.push('.');
        }
        template.push_str(if number(segment).is_some() {
            "*"
        } else {
            segment
        });
    }
    !name.contains('*')
}

/// [`split`] with so many numbers at most.
fn split_first(name: &str, most: usize) -> (String, Vec<u32>) {
    let mut numbers = Vec::new();
    if name.contains('*') {
        return (name.to_owned(), numbers);
    }
    let mut template = String::with_capacity(name.len());
    for (i, segment) in name.split('.').enumerate() {
        if i > 0 {
            template.push('.');
        }
        match number(segment).filter(|_| numbers.len() < most) {
            Some(number) => {
                numbers.push(number);
                template.push('*');
            }
            None => template.push_str(segment),
        }
    }
    (template, numbers)
}

/// Puts the numbers in the place of the `*`.
pub(crate) fn join(template: &str, numbers: &[u32]) -> String {
    let mut numbers = numbers.iter();
    let mut name = String::with_capacity(template.len() + 4);
    for (i, segment) in template.split('.').enumerate() {
        if i > 0 {
            name.push('.');
        }
        match (segment, numbers.as_slice()) {
            ("*", [_, ..]) => {
                // Writing to a string does not fail.
                let _ = numbers.next().map(|number| write!(name, "{number}"));
            }
            _ => name.push_str(segment),
        }
    }
    name
}

/// The number that a segment is, if it is one and written as numbers are.
pub(crate) fn number(segment: &str) -> Option<u32> {
    // Most segments are words, which shows in their first letter.
    let bytes = segment.as_bytes();
    let is_digit = bytes.first().is_some_and(u8::is_ascii_digit);
    let digits = is_digit && bytes.iter().all(u8::is_ascii_digit);
    let padded = bytes.len() > 1 && bytes[0] == b'0';
    (digits && !padded).then(|| segment.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_segments() {
        for (name, template, numbers) in [
            ("a.0.b.12.c", "a.*.b.*.c", &[0, 12][..]),
            ("0.w", "*.w", &[0]),
            ("a.b2.007", "a.b2.007", &[]),
            ("a.99999999999", "a.99999999999", &[]),
            ("a.*.3", "a.*.3", &[]),
            ("", "", &[]),
            ("a..b.", "a..b.", &[]),
        ] {
            assert_eq!(split(name), (template.to_owned(), numbers.to_vec()));
            assert_eq!(join(template, numbers), name);
        }
    }
}
