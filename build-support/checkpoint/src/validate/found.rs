//! Where each need is in the checkpoint.

use crate::hash::HashSet;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::forms::{Forms, Scales};
use super::hits::{Hit, Hits};
use super::keys::Keys;
use super::names::Names;
use super::rules::{Ruled, Rules};
use super::sources::Sources;
use super::{Expected, Form, Need, Needs, Rows, gguf};
use crate::dtype::Dtype;
use crate::open::{Checkpoint, Tensor, TensorId};

/// For each need, the tensor that is it.
pub(super) struct Found<'c> {
    pub hits: Hits<'c>,
    /// The order of rows, of those of which it is another, by their numbers.
    rows: BTreeMap<usize, Rows>,
    /// What a converter did to values, where loading does not undo it: what, and to which key.
    pub converted: Vec<(String, &'c str)>,
    /// Pairs of needs that would take one tensor, and are not one in the trace.
    pub twice: Vec<(usize, usize)>,
    /// Scales of what was found.
    pub scales: Vec<&'c str>,
    used: OnceCell<Keys<'c>>,
}

impl<'c> Found<'c> {
    pub fn new(expected: &Expected<'_>, finder: &Finder<'_, 'c>) -> Self {
        let hits = locate_all(expected, finder);
        let (mut rows, mut converted) = (BTreeMap::new(), Vec::new());
        for (id, (need, hit)) in expected.needs.iter().zip(hits.iter()).enumerate() {
            let Some(hit) = hit.filter(|hit| finder.is_converted(&need, hit)) else {
                continue;
            };
            match gguf::rows(&need, hit.tensor.name(), finder.checkpoint) {
                Ok(Rows::AsStored) => {}
                Ok(order) => drop(rows.insert(id, order)),
                Err(why) => converted.push((why, hit.tensor.name())),
            }
        }
        Self {
            twice: twice(expected.needs, &hits),
            hits,
            rows,
            converted,
            scales: Vec::new(),
            used: OnceCell::new(),
        }
    }

    /// Numbers that have scales beside them, which the trace does not know of, are not what they seem.
    pub fn find_scales(&mut self, expected: &Expected<'_>, finder: &Finder<'_, 'c>) {
        let is_coded = |need: &Need<'_>, hit: &Hit<'_>| {
            need.dtype.is_float() && !hit.is_packed() && !is_plain(hit.tensor.dtype())
        };
        let any_coded = {
            let mut pairs = expected.needs.iter().zip(self.hits.iter());
            pairs.any(|(need, hit)| hit.is_some_and(|hit| is_coded(&need, &hit)))
        };
        if !any_coded {
            return;
        }
        let scales = Scales::new(finder.checkpoint);
        let used = self.used.take().unwrap_or_else(|| self.keys());
        for (id, need) in expected.needs.iter().enumerate() {
            let Some(hit) = self.hits.get(id).filter(|hit| is_coded(&need, hit)) else {
                continue;
            };
            let before = self.scales.len();
            let of = scales.of(hit.tensor.name());
            self.scales.extend(of.filter(|scale| !used.contains(scale)));
            if self.scales.len() > before {
                let form = Form::Scaled;
                self.hits.set(id, Hit { form, ..hit });
            }
        }
        self.used = OnceCell::from(used);
    }

    /// The keys that are a need; to ask for when everything has been looked for.
    pub fn used(&self) -> &Keys<'c> {
        self.used.get_or_init(|| self.keys())
    }

    /// The keys that are a need so far.
    pub fn keys(&self) -> Keys<'c> {
        let mut keys = Keys::none(self.hits.checkpoint);
        let hits = self.hits.iter().flatten();
        hits.for_each(|hit| keys.insert(hit.tensor.id()));
        keys
    }

    /// Of needs that are one tensor, those that are absent take what another has.
    pub fn share(&mut self, expected: &Expected<'_>) {
        let hits = &mut self.hits;
        let tied = expected.needs.iter().enumerate();
        let tied =
            tied.filter_map(|(id, need)| Some((id, need.tied_to.filter(|&f| f < hits.len())?)));
        let tied: Vec<(usize, usize)> = tied.collect();
        let rows = &mut self.rows;
        let mut take = |id: usize, from: usize| {
            if let (None, Some(hit)) = (hits.get(id), hits.get(from)) {
                hits.set(id, Hit { tied: true, ..hit });
                rows.extend(rows.get(&from).map(|&order| (id, order)));
            }
        };
        // The first of a group stands for it: it takes the tensor of the first twin that has one.
        for &(id, first) in &tied {
            take(first, id);
        }
        for (id, first) in tied {
            take(id, first);
        }
    }

    /// What [`Validated`](super::Validated) says of needs that are not as they were traced.
    pub fn sources(&self, expected: &Expected<'_>) -> Sources {
        let pairs = self.hits.iter().zip(expected.needs.iter());
        let sources = pairs.map(|(hit, need)| {
            let other = hit.filter(|hit| need.name != hit.tensor.name());
            let form = hit.map(|hit| hit.form).unwrap_or_default();
            (other.map(|hit| hit.tensor.id()), form)
        });
        Sources::new(sources, self.rows.clone())
    }

    /// Needs that are not there, as their numbers.
    pub fn missing(&self) -> Vec<usize> {
        let hits = self.hits.iter().enumerate();
        hits.filter(|(_, hit)| hit.is_none())
            .map(|(id, _)| id)
            .collect()
    }
}

/// What `cargo pycandle extract` writes in a file's metadata: the trace whose names the file has.
pub(crate) const EXTRACTED: &str = "pycandle.manifest";

/// Looks for every need. A file has the names of the model, or the keys that rules rename: which of
/// the two is decided once, by which is whole, because a name of the one may be another tensor's name
/// in the other. Where both are, the rules were made for it, unless it was extracted for this trace.
fn locate_all<'c>(expected: &Expected<'_>, finder: &Finder<'_, 'c>) -> Hits<'c> {
    let needs = expected.needs;
    let own = |need: Need<'_>| finder.locate(&need.name, &need);
    let all_own = || Hits::new(finder.checkpoint, needs.iter().map(own));
    if expected.renames.is_empty() {
        return all_own();
    }
    let names = Names::new(expected.renames);
    let renamed = needs.iter().map(|need| match names.key(&need.name) {
        Some(key) => finder.locate(&key, &need),
        None => own(need),
    });
    let mut renamed = Hits::new(finder.checkpoint, renamed);
    let extracted = finder.checkpoint.metadata(EXTRACTED);
    let file_name = |path: &str| path.rsplit(['/', '\\']).next().map(str::to_owned);
    let extracted = extracted.and_then(|trace| file_name(trace.as_text()?));
    if (extracted.is_some() && extracted == file_name(expected.trace)) || !is_whole(needs, &renamed)
    {
        let mut hits = all_own();
        if is_whole(needs, &hits) {
            std::mem::swap(&mut hits, &mut renamed);
        }
        // What the one does not have, such as one of two twins, the other may.
        renamed.fill(|id| hits.get(id));
        return renamed;
    }
    renamed.fill(|id| own(needs.get(id)));
    renamed
}

/// Whether every need is there in its shape, of needs that are one tensor one of them.
fn is_whole(needs: &dyn Needs, hits: &Hits<'_>) -> bool {
    let fits = |id: usize| {
        let hit = hits.get(id);
        hit.is_some_and(|hit| hit.is_packed() || hit.tensor.shape() == needs.get(id).shape)
    };
    let mut unfit = (0..needs.len()).filter(|&id| !fits(id)).peekable();
    if unfit.peek().is_none() {
        return true;
    }
    let there = (0..needs.len()).filter(|&id| fits(id));
    let there: HashSet<usize> = there.map(|id| first(needs, id)).collect();
    unfit.all(|id| there.contains(&first(needs, id)))
}

/// The first of the needs that are the same tensor.
fn first(needs: &dyn Needs, id: usize) -> usize {
    needs.get(id).tied_to.unwrap_or(id)
}

/// Pairs of needs that would take one tensor, and are not one in the trace.
fn twice(needs: &dyn Needs, hits: &Hits<'_>) -> Vec<(usize, usize)> {
    let (mut taken, mut again) = (Keys::none(hits.checkpoint), Keys::none(hits.checkpoint));
    for id in hits.iter().flatten().map(|hit| hit.tensor.id()) {
        let known = if taken.has(id) {
            &mut again
        } else {
            &mut taken
        };
        known.insert(id);
    }
    if again.is_empty() {
        return Vec::new();
    }
    let found = |own: bool| {
        let hits = (0u32..).zip(hits.iter());
        let hits = hits.filter_map(|(id, hit)| Some((id, hit?.tensor)));
        let hits = hits.filter(|(_, tensor)| again.has(tensor.id()));
        hits.filter(move |(id, tensor)| (needs.get(*id as usize).name == tensor.name()) == own)
    };
    // Names of needs are unique, so that one of the two has another name than the key.
    let takes = found(false).map(|(need, tensor)| (tensor.id(), need));
    let mut takes: Vec<(TensorId, u32)> = takes.collect();
    takes.sort_unstable();
    let mut pairs = Vec::new();
    let mut add = |other: u32, id: u32| {
        let (other, id) = (other as usize, id as usize);
        if first(needs, other) != first(needs, id) {
            pairs.push((other.min(id), other.max(id)));
        }
    };
    for same in takes.chunk_by(|a, b| a.0 == b.0) {
        same[1..].iter().for_each(|&(_, id)| add(same[0].1, id));
    }
    for (need, tensor) in found(true) {
        let at = takes.partition_point(|(other, _)| *other < tensor.id());
        let other = takes.get(at).filter(|(other, _)| *other == tensor.id());
        other.into_iter().for_each(|&(_, other)| add(other, need));
    }
    pairs
}

/// Looks for needs in a checkpoint.
pub(super) struct Finder<'r, 'c> {
    pub checkpoint: &'c Checkpoint,
    /// The rules that were given, after which proposed ones come.
    pub rules: Ruled<'r, 'c>,
    forms: Forms,
    /// Whether llama.cpp's converter wrote it.
    is_llama_cpp: bool,
}

impl<'r, 'c> Finder<'r, 'c> {
    pub fn new(checkpoint: &'c Checkpoint, rules: Option<&'r dyn Rules>) -> Self {
        Self {
            checkpoint,
            rules: Ruled::new(rules, checkpoint),
            forms: Forms::new(checkpoint),
            is_llama_cpp: gguf::is_llama_cpp(checkpoint),
        }
    }

    /// Whether the values are what llama.cpp's converter made of those that the need had, however it
    /// was found. A model with llama.cpp's own names takes them as they are.
    fn is_converted(&self, need: &Need<'_>, hit: &Hit<'_>) -> bool {
        hit.mapped || (self.is_llama_cpp && need.name != hit.tensor.name())
    }

    /// The tensor of a need under this name: itself, in a quantized form, or by llama.cpp's name.
    pub fn locate(&self, name: &str, need: &Need<'_>) -> Option<Hit<'c>> {
        let own = self.checkpoint.get(name);
        if let Some(tensor) = own
            && tensor.shape() == need.shape
            && (tensor.dtype() == need.dtype || is_plain(tensor.dtype()))
        {
            return Some(Hit::new(tensor, Form::Plain));
        }
        // A trace that has integers is of the parts of a quantized weight, each for itself.
        let form = || self.forms.find(name, need.shape, self.checkpoint);
        if let Some((tensor, form)) = need.dtype.is_float().then(form).flatten() {
            return Some(Hit::new(tensor, form));
        }
        if let Some(tensor) = own {
            return Some(Hit::new(tensor, form_of(&tensor)));
        }
        let is_gguf = self.checkpoint.is_gguf();
        let tensor = is_gguf.then(|| gguf::find(name, need.shape, self.checkpoint))??;
        Some(Hit {
            mapped: true,
            ..Hit::new(tensor, form_of(&tensor))
        })
    }

    /// [`Finder::locate`], under the name that a key has after the rules.
    pub fn locate_ruled(&self, name: &str, need: &Need<'_>) -> Option<Hit<'c>> {
        self.locate(&self.key(name.into())?, need)
    }

    /// The key that has this name after the rules.
    pub fn key<'n>(&self, name: Cow<'n, str>) -> Option<Cow<'n, str>>
    where
        'c: 'n,
    {
        self.rules.key(name, &self.forms)
    }

    /// The name that a need has if this key, after the rules, is it.
    pub fn need_of<'k>(&self, key: &'k str) -> Cow<'k, str> {
        self.forms.need_of(key)
    }
}

/// Whether the type alone says that nothing beside the tensor is needed to read it.
fn is_plain(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
}

fn form_of(tensor: &Tensor<'_>) -> Form {
    match tensor.dtype().is_quantized() {
        true => Form::Blocks,
        false => Form::Plain,
    }
}
