//! The names that missing tensors may have in the checkpoint, and the renames that mend it.

mod apply;
mod norms;
mod said;

use crate::hash::HashSet;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::edit::{Behind, Edit, Kind, difference};
use super::found::{Finder, Found};
use super::keys::Keys;
use super::mismatch::{Finding, Rename};
use super::prefix::Prefixes;
use super::{Expected, Need, names, pieces};
use crate::open::TensorId;

/// Parts of names that are looked for, one after another.
const EDITS: usize = 24;
/// Lines that are shown of them.
const SHOWN: usize = 12;
/// Templates of needs that are compared with those of keys, and how many pairs that may be.
const NEEDS: (usize, usize) = (8, 256);
const PAIRS: usize = 1 << 20;
/// Templates beyond which names are no model's, and nothing is looked for.
const TEMPLATES: usize = 1 << 12;
/// Parts of names that are tried, and needs of one template on which they are.
const TRIED: usize = 256;
const SAMPLES: usize = 16;
/// Keys of one template of which it is seen whether others have the names that they would get.
const SEEN: usize = 256;
/// Templates that a part has to be in which has nothing in common with the other.
const GROUP: usize = 3;
/// How many of those with such a part have to be there by it: so many of so many.
const MOST: (usize, usize) = (3, 4);

/// The keys that a template stands for.
#[derive(Debug, Clone, Default)]
struct Keyed {
    used: usize,
    unused: Vec<TensorId>,
    /// Whether it is a name that only the renames so far give.
    moved: bool,
}

/// What is missing, and where it may be.
pub(super) struct Search<'s, 'e, 'c> {
    pub expected: &'s Expected<'e>,
    pub finder: &'s Finder<'s, 'c>,
    prefixes: &'s Prefixes,
    used: &'s Keys<'c>,
    /// Templates of missing needs, with those needs.
    pub missing: BTreeMap<String, Vec<usize>>,
    /// Those of them of which a part is not missing.
    partly: HashSet<String>,
    /// Templates of needs for which a twin stands.
    tied: HashSet<String>,
    /// Templates of keys, by the names that they have after the renames so far.
    keys: BTreeMap<String, Keyed>,
    edits: Vec<Edit>,
    /// Tensors of norms by the word that they have here.
    words: Vec<(&'static str, &'static str)>,
}

/// A part of names that may be another, and what it would find.
struct Proposal {
    edit: Edit,
    kind: Kind,
    /// The templates of needs that it finds.
    needs: Vec<String>,
    /// How many those are; of the one that is taken, which.
    count: usize,
    found: Vec<(usize, TensorId)>,
    /// What renames the keys, where there is reason enough to show it.
    rule: Option<Rename>,
}

/// What is missing may be there by these names, and of what else it may be in these pieces; the renames
/// are for keys that another prefix has been mended in, and what mends that is said first.
pub(super) fn findings<'c>(
    expected: &Expected<'_>,
    finder: &Finder<'_, 'c>,
    found: &Found<'c>,
    prefixes: &mut Prefixes,
) -> (Option<Finding>, Vec<String>) {
    if prefixes.is_choice() {
        return (None, Vec::new());
    }
    let Some(mut search) = Search::new(expected, finder, found, prefixes) else {
        return (None, Vec::new());
    };
    let (lines, renames, count) = names_of(&mut search);
    let pieces = pieces::lines(&search);
    let add = finder.rules.add();
    (
        said::finding(lines, (renames, add), count, prefixes),
        pieces,
    )
}

/// Lines that say what may be called what, the renames that mend it, and how many tensors it is.
fn names_of(search: &mut Search<'_, '_, '_>) -> (Vec<String>, Vec<Rename>, usize) {
    let (mut lines, mut renames, mut count) = (Vec::new(), Vec::new(), 0);
    for norm in search.norms() {
        let others = said::others(norm.found.len());
        count += norm.found.len();
        lines.push(format!(
            "renamed: {}{others} may end in `.{}` in the checkpoint",
            search.expected.needs.get(norm.found[0].0).name,
            norm.word
        ));
        renames.push(Rename {
            pattern: format!(r"\.{}$", norm.word),
            replacement: format!(".{}", norm.leaf),
        });
        search.apply_word(norm);
    }
    let mut best = search.best();
    for _ in 0..EDITS {
        let Some((proposal, rivals)) = best else {
            break;
        };
        count += proposal.count;
        lines.push(search.line(&proposal, &rivals));
        renames.extend(proposal.rule.clone().filter(|_| rivals.is_empty()));
        search.apply(proposal, rivals);
        best = search.best();
    }
    let cut = lines.len().saturating_sub(SHOWN);
    if cut > 1 {
        lines.truncate(SHOWN);
        lines.push(format!("  and {cut} more"));
    }
    lines.extend(best.map(|_| "  more may be found once these are mended".to_owned()));
    (lines, renames, count)
}

impl<'s, 'e, 'c> Search<'s, 'e, 'c> {
    /// `None` where there are too many templates to look for anything.
    fn new(
        expected: &'s Expected<'e>,
        finder: &'s Finder<'s, 'c>,
        found: &'s Found<'c>,
        prefixes: &'s Prefixes,
    ) -> Option<Self> {
        let used = found.used();
        let mut missing: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut template = String::new();
        let pairs = || expected.needs.iter().zip(found.hits.iter()).enumerate();
        for (id, (need, hit)) in pairs() {
            if hit.is_none() && names::write_template(&need.name, &mut template) {
                change(&mut missing, &template, |ids| ids.push(id));
            }
            if missing.len() > TEMPLATES {
                return None;
            }
        }
        let (mut partly, mut tied) = (HashSet::default(), HashSet::default());
        for (_, (need, hit)) in pairs() {
            let is_there = hit.is_some() && names::write_template(&need.name, &mut template);
            if is_there && missing.contains_key(&template) && !partly.contains(&template) {
                partly.insert(template.clone());
            }
            if is_there && hit.is_some_and(|hit| hit.tied) {
                tied.insert(template.clone());
            }
        }
        let mut keys: BTreeMap<String, Keyed> = BTreeMap::new();
        for tensor in finder.checkpoint.iter() {
            let name = finder.rules.name(tensor.name());
            let name = prefixes.renamed(&name);
            if names::write_template(&finder.need_of(&name), &mut template) {
                let is_used = used.contains(tensor.name());
                change(&mut keys, &template, |keys: &mut Keyed| match is_used {
                    true => keys.used += 1,
                    false => keys.unused.push(tensor.id()),
                });
            }
            if keys.len() > TEMPLATES {
                return None;
            }
        }
        Some(Self {
            expected,
            finder,
            prefixes,
            used,
            missing,
            partly,
            tied,
            keys,
            edits: Vec::new(),
            words: Vec::new(),
        })
    }

    /// The key that has this name after the renames so far; the name itself where none has.
    pub fn original(&self, name: String) -> String {
        let is_there = |key: &str| self.finder.checkpoint.get(key).is_some();
        self.key(&name, is_there).unwrap_or(name)
    }

    /// The key of which this holds that has this name after the renames so far.
    fn key(&self, name: &str, is_it: impl Fn(&str) -> bool) -> Option<String> {
        let before = |without: Option<usize>| {
            let (mut name, mut undone) = (name.to_owned(), Vec::new());
            for (number, edit) in self.edits.iter().enumerate().rev() {
                let key = edit.key_of(&name).filter(|_| without != Some(number));
                if let Some(key) = key {
                    undone.push(number);
                    name = key;
                }
            }
            let worded = self.words.iter().filter_map(|(own, word)| {
                let module = name.strip_suffix(own)?;
                module.ends_with('.').then(|| format!("{module}{word}"))
            });
            let mut names = std::iter::once(name.clone()).chain(worded);
            let key = names.find_map(|name| {
                let prefixed = [self.prefixes.key(&name), Cow::Borrowed(&*name)];
                let mut keys = prefixed.into_iter().filter_map(|key| self.finder.key(key));
                keys.find(|key| is_it(key)).map(Cow::into_owned)
            });
            (key, undone)
        };
        // Of names that are as a rename makes them, some were so before it.
        let (key, undone) = before(None);
        key.or_else(|| undone.into_iter().find_map(|edit| before(Some(edit)).0))
    }

    /// The key by which a need is in the checkpoint, unused, if it is there by this name.
    fn unused_key(&self, name: &str, need: &Need<'_>) -> Option<String> {
        let is_it = |key: &str| {
            self.finder.locate(key, need).is_some_and(|hit| {
                let fits = hit.is_packed() || *hit.tensor.shape() == *need.shape;
                fits && !hit.mapped && !self.used.contains(hit.tensor.name())
            })
        };
        self.key(name, is_it)
    }

    /// The tensor of [`Self::unused_key`].
    fn unused_tensor(&self, name: &str, need: &Need<'_>) -> Option<TensorId> {
        let key = self.unused_key(name, need)?;
        Some(self.finder.locate(&key, need)?.tensor.id())
    }

    /// The part of names by which most is found, and others by which the same is.
    fn best(&self) -> Option<(Proposal, Vec<Proposal>)> {
        let mut groups: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
        let keys: Vec<&str> = self.unused().collect();
        let most = (PAIRS / keys.len().max(1)).clamp(NEEDS.0, NEEDS.1);
        let step = self.missing.len().div_ceil(most).max(1);
        for need in self.missing.keys().step_by(step) {
            for key in &keys {
                let Some((left, a, b)) = difference(need, key) else {
                    continue;
                };
                if groups.len() < PAIRS || groups.contains_key(&(left, a, b)) {
                    groups.entry((left, a, b)).or_default().push(need);
                }
            }
        }
        let size = |needs: &[&str]| needs.iter().map(|need| self.missing[*need].len()).sum();
        let mut groups: Vec<(usize, _, _)> = groups
            .into_iter()
            .map(|(parts, needs)| (size(&needs), parts, needs))
            .collect();
        groups.sort_by_key(|(size, (_, a, b), _)| (Reverse(*size), a.len() + b.len()));
        let mut all: Vec<Proposal> = Vec::new();
        let mut tried = 0;
        for (size, (left, a, b), needs) in groups {
            if tried == TRIED || all.iter().any(|best| best.count > size) {
                break;
            }
            let kind = match norms::NORMS
                .iter()
                .any(|(leaf, words)| *leaf == a && words.contains(&b))
            {
                true => Kind::Slip,
                false => Kind::of(a, b),
            };
            if kind == Kind::Other && needs.len() < 2 {
                continue;
            }
            tried += 1;
            all.extend(self.proposal((left, a, b), kind, SEEN));
        }
        all.sort_by_key(|p| (Reverse(p.count), p.kind, p.edit.clone()));
        let mut all = all.into_iter();
        // Which keys a rule leaves alone has been seen of some.
        let mut best = all.find_map(|p| match self.is_harmless(&p.edit, usize::MAX) {
            true => Some(p),
            false => {
                let Edit {
                    left, need, key, ..
                } = &p.edit;
                self.proposal((left, need, key), p.kind, usize::MAX)
            }
        })?;
        best.found = self.found(&best);
        let first = self.expected.needs.get(best.found.first()?.0);
        let equal =
            |p: &Proposal| (p.count, p.kind, &p.needs) == (best.count, best.kind, &best.needs);
        let rivals = all.take_while(equal).filter(|rival| {
            let name = rival.edit.key_of(&first.name);
            name.is_some_and(|name| self.unused_tensor(&name, &first).is_some())
        });
        let rivals = rivals.collect();
        best.count = best.found.len();
        Some((best, rivals))
    }

    /// Templates of keys that nothing needs.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().filter(|(_, keys)| !keys.unused.is_empty());
        keys.map(|(key, _)| &**key)
    }

    /// What such a part would find, if it is worth saying.
    fn proposal(
        &self,
        (left, need, key): (&str, &str, &str),
        kind: Kind,
        seen: usize,
    ) -> Option<Proposal> {
        let mut edit = Edit {
            left: left.to_owned(),
            need: need.to_owned(),
            key: key.to_owned(),
            behind: Behind::Any,
        };
        // What is there for some layers is no other name of what is there for the others, unless a
        // library wrote only these with a module of its own around them.
        let is_whole = kind == Kind::Slip || edit.is_wrapper();
        let is_free = |need: &&str| is_whole || !self.partly.contains(*need);
        let fits = self.all_with(&edit).filter(is_free);
        let fits = fits.filter(|need| self.fits(&edit, need));
        let fits: Vec<String> = fits.map(str::to_owned).collect();
        if fits.is_empty() {
            return None;
        }
        if kind == Kind::Other && !self.is_whole(&edit, &fits) {
            return None;
        }
        let needs = self.bind(&mut edit, fits, seen)?;
        let count = self.count(&edit, &needs);
        // A single tensor below one more module may be another one of its kind.
        let is_known = kind != Kind::Inserted || count > 1 || edit.is_wrapper();
        Some(Proposal {
            rule: edit.rename().filter(|_| is_known),
            edit,
            kind,
            needs,
            count,
            found: Vec::new(),
        })
    }

    /// The templates of all missing needs with the part; where it is the end of a name, only that name.
    fn all_with(&self, edit: &Edit) -> impl Iterator<Item = &str> {
        let start = format!("{}{}", edit.left, edit.need);
        let is_segment = |part: &str| part.is_empty() || part.ends_with('.');
        let is_end = !is_segment(&edit.need) || !is_segment(&edit.key);
        let from = self.missing.range(start.clone()..).map(|(need, _)| &**need);
        let length = start.len();
        from.take_while(move |need| need.starts_with(&start))
            .filter(move |need| !is_end || need.len() == length)
    }

    /// How many needs of these templates there are keys for.
    fn count(&self, edit: &Edit, needs: &[String]) -> usize {
        let counts = needs.iter().map(|need| {
            let rest = need.get(edit.left.len() + edit.need.len()..).unwrap_or("");
            let key = self.keys.get(&format!("{}{}{rest}", edit.left, edit.key));
            self.missing[need]
                .len()
                .min(key.map_or(0, |keys| keys.unused.len()))
        });
        counts.sum()
    }

    /// Whether half of the needs of this template, or more, are there with the other part.
    fn fits(&self, edit: &Edit, template: &str) -> bool {
        let ids = &self.missing[template];
        let step = ids.len().div_ceil(SAMPLES).max(1);
        let needs = ids
            .iter()
            .step_by(step)
            .map(|&id| self.expected.needs.get(id));
        let is_there = |need: &Need<'_>| {
            let key = edit.key_of(&need.name);
            key.is_some_and(|key| self.unused_key(&key, need).is_some())
        };
        let (of, hits) = (needs.clone().count(), needs.filter(is_there).count());
        2 * hits >= of
    }

    /// Whether these are most needs with the one part, and their keys most keys with the other; of two
    /// alone, all that there is.
    fn is_whole(&self, edit: &Edit, fits: &[String]) -> bool {
        let (need, key) = (
            format!("{}{}", edit.left, edit.need),
            format!("{}{}", edit.left, edit.key),
        );
        let fits: HashSet<&str> = fits.iter().map(|need| &**need).collect();
        let needs = self.missing.keys().filter(|name| name.starts_with(&need));
        let keys = self.keys.keys().filter(|name| name.starts_with(&key));
        let is_one = |key: &&String| {
            let need = edit.need_of(key);
            need.is_some_and(|need| fits.contains(&*need) || self.tied.contains(&need))
        };
        // A file that has other names with the one part has them as they are.
        let own = |(name, keys): (&String, &Keyed)| !keys.moved && name.starts_with(&need);
        let (all_needs, all_keys) = (needs.count(), keys.clone().count());
        let those = keys.filter(is_one).count();
        let is_most = |some: usize, of: usize| MOST.1 * some >= MOST.0 * of;
        let is_all = || {
            let unused = self.unused().count();
            (fits.len(), those) == (self.missing.len(), unused)
        };
        (fits.len() >= GROUP || fits.len() > 1 && is_all())
            && is_most(fits.len(), all_needs)
            && is_most(those, all_keys)
            && !self.keys.iter().any(own)
    }

    /// Makes the rule touch nothing but what it is for; the templates of needs that it then is for.
    fn bind(&self, edit: &mut Edit, needs: Vec<String>, seen: usize) -> Option<Vec<String>> {
        if needs.len() > 1 {
            if !edit.key.is_empty() && self.is_harmless(edit, seen) {
                return Some(needs);
            }
            if edit.bind(needs.iter().map(|need| &**need)) && self.is_harmless(edit, seen) {
                return Some(needs);
            }
        }
        let need = needs.into_iter().next()?;
        let end = need.get(edit.left.len() + edit.need.len()..)?;
        edit.behind = Behind::End(end.to_owned());
        self.is_harmless(edit, seen).then(|| vec![need])
    }

    /// Whether the rule leaves all keys alone that are used, and makes no name of another key, as far
    /// as so many of each template show it.
    fn is_harmless(&self, edit: &Edit, seen: usize) -> bool {
        self.keys.iter().all(|(key, keys)| {
            let step = keys.unused.len().div_ceil(seen).max(1);
            let mut unused = keys.unused.iter().step_by(step);
            edit.need_of(key).is_none_or(|name| {
                let is_taken = |&id| self.is_key(&name, id);
                keys.used == 0 && !(self.keys.contains_key(&name) && unused.any(is_taken))
            })
        })
    }

    /// Whether there is a key of this template with the numbers of that one.
    fn is_key(&self, template: &str, numbered: TensorId) -> bool {
        let tensor = self.finder.checkpoint.at(numbered);
        let name = self.finder.rules.name(tensor.map_or("", |t| t.name()));
        let (_, numbers) = names::split(&self.prefixes.renamed(&name));
        let is_there = |key: &str| self.finder.checkpoint.get(key).is_some();
        self.key(&names::join(template, &numbers), is_there)
            .is_some()
    }
}

/// Changes the value of this name, without a copy of the name where there is one.
pub(super) fn change<T: Default>(
    map: &mut BTreeMap<String, T>,
    name: &str,
    change: impl FnOnce(&mut T),
) {
    match map.get_mut(name) {
        Some(value) => change(value),
        None => change(map.entry(name.to_owned()).or_default()),
    }
}

/// The last part of a dotted name.
fn leaf(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}
