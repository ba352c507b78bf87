//! Long lists of a manifest, read as they are gone through: of half a million parameters one is held
//! at a time.

use std::marker::PhantomData;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::Element;
use super::locate::Lines;

/// A list whose elements are known to have the right form; each look at one reads it again.
pub(super) struct List<'a, T> {
    pub text: &'a str,
    pub lines: Rc<Lines<'a>>,
    pub len: usize,
    pub of: PhantomData<fn() -> T>,
}

impl<'a, T: Deserialize<'a>> List<'a, T> {
    /// The elements, with their lines.
    pub fn iter(&self) -> impl Iterator<Item = Element<T>> + use<'a, T> {
        let lines = Rc::clone(&self.lines);
        let mut items = Items::<T>::new(self.text);
        std::iter::from_fn(move || {
            let line = lines.of(items.rest()?);
            let is = items.next()?.ok()?;
            Some(Element { line, is })
        })
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// The elements of a JSON list; those of another form as they stand there.
pub(super) struct Items<'a, T> {
    rest: &'a str,
    of: PhantomData<fn() -> T>,
}

impl<'a, T> Items<'a, T> {
    /// The elements of `text`, which is a valid list.
    pub fn new(text: &'a str) -> Self {
        Self {
            rest: text.strip_prefix('[').unwrap_or_default(),
            of: PhantomData,
        }
    }

    /// What begins with the next element, if there is one.
    fn rest(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
        self.rest = rest;
        (!rest.is_empty() && !rest.starts_with(']')).then_some(rest)
    }
}

impl<'a, T: Deserialize<'a>> Iterator for Items<'a, T> {
    type Item = Result<T, &'a RawValue>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest()?;
        let mut stream = Deserializer::from_str(rest).into_iter::<T>();
        if let Some(Ok(element)) = stream.next() {
            self.rest = &rest[stream.byte_offset()..];
            return Some(Ok(element));
        }
        let raw = <&RawValue>::deserialize(&mut Deserializer::from_str(rest)).ok()?;
        self.rest = &rest[raw.get().len()..];
        Some(Err(raw))
    }
}
