//! The names that keys have once rules have renamed them, and the way back.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use super::forms::Forms;
use crate::hash::HashMap;
use crate::open::Checkpoint;

/// Rules that give keys of a checkpoint other names.
///
/// ```
/// use std::borrow::Cow;
/// use pycandle_checkpoint::{Dtype, Expected, Need, Rules, Snapshot, validate};
///
/// #[derive(Debug)]
/// struct Without(&'static str);
///
/// impl Rules for Without {
///     fn name<'k>(&self, key: &'k str) -> Cow<'k, str> {
///         key.strip_prefix(self.0).unwrap_or(key).into()
///     }
/// }
///
/// let mut snapshot = Snapshot::default();
/// snapshot.tensor("net.clasifier.weight", Dtype::F32, &[4])?;
/// let checkpoint = snapshot.into_checkpoint("w".as_ref(), "w".as_ref());
/// let need = Need { name: "classifier.weight".into(), shape: &[4], dtype: Dtype::F32, tied_to: None };
/// let rules = Without("net.");
/// let expected = Expected { needs: &[need], rules: Some(&rules), ..Expected::DEFAULT };
/// let mismatch = validate(&expected, &checkpoint).unwrap_err().to_string();
/// // The rule that is proposed comes behind those that there are:
/// assert!(mismatch.contains("classifier.weight may be called net.clasifier.weight in the checkpoint"));
/// assert!(mismatch.contains(r#"rename = [("^clasifier\\.weight$", "classifier.weight")]"#));
/// # Ok::<(), String>(())
/// ```
pub trait Rules: fmt::Debug + Sync {
    /// What a key becomes.
    fn name<'k>(&self, key: &'k str) -> Cow<'k, str>;
}

/// The keys of a checkpoint under the names that rules give them; their own where there are no rules.
pub(super) struct Ruled<'r, 'c> {
    rules: Option<&'r dyn Rules>,
    checkpoint: &'c Checkpoint,
    change_any: OnceCell<bool>,
    /// The keys by those names, once one is asked for.
    keys: OnceCell<HashMap<String, Cow<'c, str>>>,
}

impl<'r, 'c> Ruled<'r, 'c> {
    pub fn new(rules: Option<&'r dyn Rules>, checkpoint: &'c Checkpoint) -> Self {
        Self {
            rules,
            checkpoint,
            change_any: OnceCell::new(),
            keys: OnceCell::new(),
        }
    }

    /// What a finding says behind its class of names that only the rules give.
    pub fn after(&self) -> &'static str {
        match self.change_any() {
            true => "after the renames given, ",
            false => "",
        }
    }

    /// What stands before a rename that is to be added.
    pub fn add(&self) -> &'static str {
        match self.change_any() {
            true => "add after those given",
            false => "add",
        }
    }

    /// Whether a key has another name by the rules.
    fn change_any(&self) -> bool {
        *self.change_any.get_or_init(|| {
            let is_other = |key: &str| self.name(key) != key;
            let mut keys = self.checkpoint.iter().map(|tensor| tensor.name());
            self.rules.is_some() && keys.any(is_other)
        })
    }

    /// What a key becomes.
    pub fn name<'k>(&self, key: &'k str) -> Cow<'k, str> {
        self.rules
            .map_or(Cow::Borrowed(key), |rules| rules.name(key))
    }

    /// The key that becomes this name, of parts of a quantized weight the one that it would have whole;
    /// `None` where no key does. Of llama.cpp's names a need is no key, and stays what it is.
    pub fn key<'n>(&self, name: Cow<'n, str>, forms: &Forms) -> Option<Cow<'n, str>>
    where
        'c: 'n,
    {
        if !self.change_any() {
            return Some(name);
        }
        let keys = self.keys.get_or_init(|| self.keys(forms));
        let key = keys.get(&*name).cloned();
        key.or_else(|| self.checkpoint.is_gguf().then_some(name))
    }

    fn keys(&self, forms: &Forms) -> HashMap<String, Cow<'c, str>> {
        let mut keys = HashMap::default();
        for tensor in self.checkpoint.iter() {
            let name = self.name(tensor.name());
            let whole = forms.need_of(&name);
            if whole != name {
                keys.entry(whole.into_owned())
                    .or_insert_with(|| forms.need_of(tensor.name()));
            }
            keys.insert(name.into_owned(), Cow::Borrowed(tensor.name()));
        }
        keys
    }
}
