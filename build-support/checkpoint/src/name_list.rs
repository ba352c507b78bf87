//! Many names in few bytes: those that differ in nothing but their numbers share a text.

use std::fmt::Write;

use crate::entries::Texts;
use crate::ranges::runs;

/// Names of which it is not noted where they start.
const STEP: usize = 16;

/// Names by the order in which they came, each with a number that says of what kind it is: a layer's
/// part takes 4 bytes, and one or two for each number in its name.
///
/// ```
/// use pycandle_checkpoint::NameList;
/// let mut names = NameList::default();
/// for layer in 0..100 {
///     names.push(&format!("layers.{layer}.norm.weight"), 1);
/// }
/// assert_eq!((names.len(), names.get(42)), (100, Some(("layers.42.norm.weight".into(), 1))));
/// ```
#[derive(Debug, Default)]
pub struct NameList {
    /// Names with `0` for each of their numbers.
    templates: Texts,
    /// Of each name the bytes of what follows, its kind, its template, and its own numbers, of 7 bits
    /// to a byte.
    bytes: Vec<u8>,
    /// Where the first name starts, and every [`STEP`]th behind it.
    starts: Vec<u32>,
    len: usize,
    /// What is added for a name.
    entry: Vec<u8>,
    /// The template of the name that is added.
    template: String,
}

impl NameList {
    /// Adds a name; `None` where there are more than 32 bits count.
    pub fn push(&mut self, name: &str, kind: u32) -> Option<()> {
        self.template.clear();
        for (text, number) in runs(name) {
            self.template.push_str(number.map_or(text, |_| "0"));
        }
        let template = match self.templates.find(&self.template) {
            Some(template) => template,
            None => {
                self.templates.add(&self.template).ok()?;
                self.templates.find(&self.template)?
            }
        };
        self.entry.clear();
        let numbers = runs(name).filter_map(|(_, number)| number);
        for number in [kind, template].into_iter().chain(numbers) {
            write(number, &mut self.entry);
        }
        if self.len.is_multiple_of(STEP) {
            self.starts.push(u32::try_from(self.bytes.len()).ok()?);
        }
        write(u32::try_from(self.entry.len()).ok()?, &mut self.bytes);
        self.bytes.extend_from_slice(&self.entry);
        self.len += 1;
        Some(())
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The name that was added behind so many others, and its kind; `None` where there are not so many.
    pub fn get(&self, number: usize) -> Option<(String, u32)> {
        if number >= self.len {
            return None;
        }
        let mut numbers = self.bytes[self.starts[number / STEP] as usize..].iter();
        for _ in 0..number % STEP {
            let skipped = read(&mut numbers) as usize;
            numbers = numbers.as_slice()[skipped..].iter();
        }
        let len = read(&mut numbers) as usize;
        let kind = read(&mut numbers);
        let template = self.templates.get(read(&mut numbers));
        // Numbers take at most ten digits for their five bytes.
        let mut name = String::with_capacity(template.len() + 2 * len);
        for (text, number) in runs(template) {
            match number {
                // A `String` takes every text.
                Some(_) => drop(write!(name, "{}", read(&mut numbers))),
                None => name.push_str(text),
            }
        }
        Some((name, kind))
    }
}

/// Adds a number, its lowest 7 bits first; the highest bit of a byte says that there are more.
fn write(mut number: u32, to: &mut Vec<u8>) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn read<'b>(from: &mut impl Iterator<Item = &'b u8>) -> u32 {
    let mut number = 0;
    for (shift, byte) in (0..u32::BITS).step_by(7).zip(from) {
        number |= u32::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn held(names: &[&str]) -> NameList {
        let mut list = NameList::default();
        for (kind, name) in (0..).zip(names) {
            list.push(name, 1000 * kind).expect("room");
        }
        list
    }

    #[test]
    fn every_name_is_what_it_was() {
        let names = [
            "",
            "0",
            "00",
            "a.0.b",
            "a.7.b",
            "a.007.b",
            "a.0.007.4294967295",
            "a.4294967296.b",
            "größe3.ä12",
            "1a2b3c",
            "a.7.b",
            "{}*\0",
            &"1.".repeat(200),
            "b",
        ];
        let list = held(&names);
        assert_eq!(list.len(), names.len());
        for (number, name) in names.iter().enumerate() {
            let kind = 1000 * number as u32;
            assert_eq!(list.get(number), Some(((*name).to_owned(), kind)));
        }
        assert_eq!(list.get(names.len()), None);
    }

    #[test]
    fn names_of_one_template_take_a_few_bytes() {
        let names: Vec<String> = (0..1000).map(|n| format!("h.{}.e.{n}.w", n % 48)).collect();
        let mut list = NameList::default();
        names
            .iter()
            .for_each(|name| list.push(name, 7).expect("room"));
        assert_eq!(list.templates.len(), 1);
        // One for the length, the kind, the template and the layer each, two for most experts.
        assert_eq!(list.bytes.len(), 128 * 5 + 872 * 6);
        assert_eq!(list.starts.len(), 63);
    }

    proptest! {
        #[test]
        fn all_names_come_back(names: Vec<String>, digits in "[0-9a.]{0,24}") {
            let names = names.iter().map(String::as_str);
            let names: Vec<&str> = names.chain([&*digits]).collect();
            let list = held(&names);
            for (number, name) in names.iter().enumerate() {
                let kind = 1000 * number as u32;
                prop_assert_eq!(list.get(number), Some(((*name).to_owned(), kind)));
            }
        }
    }
}
