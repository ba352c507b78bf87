//! Rename rules: regular expressions over a checkpoint's keys, resolved before anything is generated.
//!
//! In: rules and keys. Out: need → key as templates, so that no regular expression is left to run.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use pycandle_checkpoint::{Checkpoint, Names, Needs, TensorId, Validated, escaped, need_of_key};
use regex::Regex;

use crate::lock;
use crate::syntax::Syntax;

/// Lines of one kind that are spelled out.
const SHOWN: usize = 12;

/// A rule: every match of a regular expression in a key is replaced.
///
/// The syntax is that of the crate `regex`, with Unicode's `\d`, `\w` and `\s`; write `(?i-u)` for
/// letters of either case. In the replacement, `$1`, `${1}` and `${name}` stand for
/// groups and `$$` for a dollar sign.
///
/// ```
/// use pycandle_build::RenameRule;
/// let rule = RenameRule::new(r"^transformer\.h\.(\d+)", "model.layers.${1}")?;
/// assert_eq!(rule.apply("transformer.h.3.ln_1.weight"), "model.layers.3.ln_1.weight");
/// assert!(RenameRule::new("(", "").is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone)]
pub struct RenameRule {
    pattern: Regex,
    replacement: String,
}

impl RenameRule {
    /// A rule with this pattern and replacement.
    ///
    /// # Errors
    /// A sentence when the pattern is no regular expression, or when the replacement names a group
    /// that the pattern does not have.
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, String> {
        let compiled = Regex::new(pattern).map_err(|error| {
            format!(
                "`{pattern}` is no regular expression: {}",
                why(&error.to_string())
            )
        })?;
        for group in groups(replacement) {
            let known = match group.parse() {
                Ok(number) => compiled.captures_len() > number,
                Err(_) => compiled.capture_names().flatten().any(|name| name == group),
            };
            if !known {
                let digits = group.bytes().take_while(u8::is_ascii_digit).count();
                let mend = match &group[..digits] {
                    "" => "write `$$` for a dollar sign".to_owned(),
                    number if number == group => "groups count from 1".to_owned(),
                    number => format!("write `${{{number}}}` for group {number}"),
                };
                return Err(format!(
                    "`{replacement}` names a group `{group}`, which `{pattern}` does not have: {mend}"
                ));
            }
        }
        Ok(Self {
            pattern: compiled,
            replacement: replacement.to_owned(),
        })
    }

    /// The key after this rule.
    pub fn apply(&self, key: &str) -> String {
        self.pattern
            .replace_all(key, &*self.replacement)
            .into_owned()
    }

    fn shown(&self, syntax: Syntax) -> String {
        syntax.rule(self.pattern.as_str(), &self.replacement)
    }
}

/// What is wrong with a pattern, of what the crate `regex` says.
fn why(error: &str) -> &str {
    // The last line says what is wrong, the others draw where.
    let last = error.lines().last().unwrap_or_default();
    match last.trim_start_matches("error: ") {
        // The crate goes on with its features, which nobody can enable from here.
        why if why.contains("unicode-case") => "write `(?i-u)` for `(?i)`, of ASCII letters",
        why if why.contains("Unicode property") => {
            "no classes `\\p{…}` of Unicode are known here, write the characters in brackets"
        }
        why => why,
    }
}

/// The groups that a replacement names, read as the crate `regex` reads them.
fn groups(replacement: &str) -> Vec<&str> {
    let mut groups = Vec::new();
    let mut rest = replacement;
    while let Some(dollar) = rest.find('$') {
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some(braced) = rest.strip_prefix('{') {
            let Some(end) = braced.find('}') else {
                continue;
            };
            groups.push(&braced[..end]);
            rest = &braced[end..];
        } else {
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            if end > 0 {
                groups.push(&rest[..end]);
            }
            rest = &rest[end..];
        }
    }
    groups
}

/// All rules of a model, the first of which is the first to be applied.
#[derive(Debug)]
pub(super) struct InOrder<'r>(pub &'r [RenameRule]);

impl pycandle_checkpoint::Rules for InOrder<'_> {
    fn name<'k>(&self, key: &'k str) -> Cow<'k, str> {
        through(self.0, key, |_, _| ())
    }
}

/// What a key becomes; `each` is told of every rule that matches, and whether it changes anything.
fn through<'k>(
    rules: &[RenameRule],
    key: &'k str,
    mut each: impl FnMut(usize, bool),
) -> Cow<'k, str> {
    let mut name = Cow::Borrowed(key);
    for (number, rule) in rules.iter().enumerate() {
        if rule.pattern.is_match(&name) {
            let next = rule.apply(&name);
            each(number, next != name);
            name = Cow::Owned(next);
        }
    }
    name
}

/// What rules make of a checkpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Need → key, as [`Expected::renames`](pycandle_checkpoint::Expected::renames) says.
    pub renames: Vec<(String, String)>,
    /// For each rule whether it matches a key.
    pub matched: Vec<bool>,
}

/// Applies the rules to every key, the first rule first, each to what the one before made of it.
///
/// # Errors
/// The checkpoint, and one line for every name that two of its keys become.
pub(super) fn resolve(
    rules: &[RenameRule],
    needs: &dyn Needs,
    checkpoint: &Checkpoint,
    syntax: Syntax,
) -> Result<Resolved, Vec<String>> {
    if rules.is_empty() {
        return Ok(Resolved::default());
    }
    let mut rules = Rules::new(rules, checkpoint);
    let twice = rules.twice();
    if !twice.is_empty() {
        let mut lines = vec![
            "rename rules make one name of several keys".to_owned(),
            format!("--> {}", lock::slashed(checkpoint.shown())),
            String::new(),
        ];
        lines.extend(cut(collisions(&twice, rules.rules, syntax)));
        return Err(lines);
    }
    let keys = rules.keys(needs);
    Ok(Resolved {
        renames: templates(needs, &keys),
        matched: rules.matched,
    })
}

/// What is said of rules that match nothing and, where everything fits, of those without which it
/// would fit as well.
pub(super) fn idle(
    rules: &[RenameRule],
    matched: &[bool],
    fits: Option<(&Validated, &Checkpoint)>,
    syntax: Syntax,
) -> Vec<String> {
    let mut left = matched.iter().filter(|matched| **matched).count();
    let mut serves = vec![false; rules.len()];
    if let Some((validated, checkpoint)) = fits {
        let keys = validated.sources().filter_map(|(_, s)| s.key(checkpoint));
        for key in keys {
            if left == 0 {
                break;
            }
            through(rules, key, |rule, changes| {
                left -= usize::from(changes && !serves[rule]);
                serves[rule] |= changes;
            });
        }
    }
    let all = || rules.iter().zip(matched).zip(&serves);
    let is_idle = |matched: bool, serves: bool| fits.is_some() && matched && !serves;
    // A rule that moves a key out of the way of another serves too.
    let makes_room = fits.is_some_and(|(_, checkpoint)| {
        let others = all().filter(|((_, matched), serves)| !is_idle(**matched, **serves));
        let others: Vec<_> = others.map(|((rule, _), _)| rule.clone()).collect();
        others.len() < rules.len() && !Rules::new(&others, checkpoint).twice().is_empty()
    });
    let idle = all().filter_map(|((rule, matched), serves)| {
        let why = match matched {
            false => "matches no key of the checkpoint",
            true if is_idle(*matched, *serves) && !makes_room => {
                "changes no key that the model is read from"
            }
            true => return None,
        };
        Some(format!("the rename {} {why}", rule.shown(syntax)))
    });
    idle.collect()
}

/// Rules at work.
struct Rules<'r, 'c> {
    rules: &'r [RenameRule],
    checkpoint: &'c Checkpoint,
    /// Whether each has matched a key.
    matched: Vec<bool>,
    hasher: RandomState,
}

impl<'r, 'c> Rules<'r, 'c> {
    fn new(rules: &'r [RenameRule], checkpoint: &'c Checkpoint) -> Self {
        Self {
            rules,
            checkpoint,
            matched: vec![false; rules.len()],
            hasher: RandomState::new(),
        }
    }

    /// What a key becomes.
    fn name<'k>(&mut self, key: &'k str) -> Cow<'k, str> {
        through(self.rules, key, |rule, _| self.matched[rule] = true)
    }

    fn hash(&self, name: &str) -> u32 {
        self.hasher.hash_one(name) as u32
    }

    /// The names that several keys have afterwards, with those keys.
    fn twice(&mut self) -> BTreeMap<String, BTreeSet<&'c str>> {
        let checkpoint = self.checkpoint;
        // What is renamed, half a million of which are held by a hash of what they become.
        let mut renamed: Vec<(u32, TensorId)> = Vec::new();
        for tensor in checkpoint.iter() {
            let name = self.name(tensor.name());
            if name != tensor.name() {
                renamed.push((self.hash(&name), tensor.id()));
            }
        }
        renamed.sort_unstable();
        let mut twice: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for alike in renamed.chunk_by(|a, b| a.0 == b.0) {
            let keys = alike.iter().map(|&(_, id)| key(checkpoint, id));
            let mut names: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
            for key in keys {
                let name = self.name(key);
                // A name that was there before, and whose tensor keeps it.
                let other = checkpoint.get(&name).map(|other| other.name());
                let other = other.filter(|other| self.name(other) == *other);
                let keys = names.entry(name.into_owned()).or_default();
                keys.extend([key].into_iter().chain(other));
            }
            twice.extend(names.into_iter().filter(|(_, keys)| keys.len() > 1));
        }
        twice
    }

    /// The key of every need that has another one.
    fn keys(&mut self, needs: &dyn Needs) -> Keys<'c> {
        let by_name = needs.by_name();
        let mut keys = Keys {
            checkpoint: self.checkpoint,
            ids: vec![None; needs.len()],
            is_part: vec![false; needs.len()],
        };
        let mut parts: Vec<(u32, TensorId)> = Vec::new();
        for tensor in self.checkpoint.iter() {
            let key = tensor.name();
            let name = self.name(key);
            if let Some(need) = by_name.find(&name).filter(|_| name != key) {
                keys.ids[need] = Some(tensor.id());
            } else if name != key && need_of_key(key).is_some() {
                let need = need_of_key(&name).and_then(|need| by_name.find(&need));
                let need = need.and_then(|need| u32::try_from(need).ok());
                parts.extend(need.map(|need| (need, tensor.id())));
            }
        }
        for (need, id) in parts {
            let need = need as usize;
            if keys.ids[need].is_none() {
                keys.ids[need] = Some(id);
                keys.is_part[need] = true;
            }
        }
        keys
    }
}

/// The keys of needs, by their numbers.
struct Keys<'c> {
    checkpoint: &'c Checkpoint,
    ids: Vec<Option<TensorId>>,
    /// Whether each is of a part: the need's key is the one that the weight would have whole.
    is_part: Vec<bool>,
}

impl<'c> Keys<'c> {
    /// For every need its key, where that is not its name.
    fn iter(&self) -> impl Iterator<Item = Option<Cow<'c, str>>> {
        let keys = self.ids.iter().zip(&self.is_part);
        keys.map(|(id, is_part)| {
            let key = key(self.checkpoint, (*id)?);
            let whole = is_part.then(|| need_of_key(key)).flatten();
            Some(whole.map_or(Cow::Borrowed(key), Cow::Owned))
        })
    }
}

fn key(checkpoint: &Checkpoint, id: TensorId) -> &str {
    checkpoint.at(id).map_or("", |tensor| tensor.name())
}

/// `rename: a.w and b.w both become c.w, by ("^.", "c")`; names that differ in their numbers alone are
/// one line.
fn collisions(
    twice: &BTreeMap<String, BTreeSet<&str>>,
    rules: &[RenameRule],
    syntax: Syntax,
) -> Vec<String> {
    type Alike<'t> = (&'t str, &'t BTreeSet<&'t str>, usize);
    let mut groups: BTreeMap<(String, BTreeSet<String>, Vec<bool>), Alike<'_>> = BTreeMap::new();
    for (name, keys) in twice {
        let template = |name: &str| Names::all_numbers(name).0;
        let templates = keys.iter().map(|key| template(key)).collect();
        let group = (template(name), templates, at_work(keys, rules));
        groups.entry(group).or_insert((name, keys, 0)).2 += 1;
    }
    let lines = groups.iter().map(|((_, _, at_work), (name, keys, count))| {
        let keys: Vec<_> = keys.iter().copied().collect();
        let all = if keys.len() == 2 { "both" } else { "all" };
        let rules = rules.iter().zip(at_work).filter(|(_, at_work)| **at_work);
        let rules: Vec<_> = rules.map(|(rule, _)| rule.shown(syntax)).collect();
        let by = rules.join(" and ");
        let alike = match count {
            1 => String::new(),
            2 => "; 1 other name in the same way".to_owned(),
            n => format!("; {} other names in the same way", n - 1),
        };
        let name = match *name {
            "" => "an empty name",
            name => name,
        };
        let line = format!(
            "rename: {} {all} become {name}, by {by}{alike}",
            list(&keys)
        );
        escaped(&line).into_owned()
    });
    lines.collect()
}

/// For each rule whether it changes any of these keys.
fn at_work(keys: &BTreeSet<&str>, rules: &[RenameRule]) -> Vec<bool> {
    let mut at_work = vec![false; rules.len()];
    for key in keys {
        through(rules, key, |rule, changes| at_work[rule] |= changes);
    }
    at_work
}

/// `a and b`, or `a, b and 3 more`.
fn list(keys: &[&str]) -> String {
    match keys {
        [a, b] => format!("{a} and {b}"),
        [a, b, rest @ ..] => format!("{a}, {b} and {} more", rest.len()),
        keys => keys.concat(),
    }
}

fn cut(mut lines: Vec<String>) -> Vec<String> {
    let rest = lines.len().saturating_sub(SHOWN);
    if rest > 0 {
        lines.truncate(SHOWN);
        lines.push(format!("  and {rest} more"));
    }
    lines
}

/// The keys as templates, where a template says of every need that it names what the keys say.
fn templates(needs: &dyn Needs, keys: &Keys<'_>) -> Vec<(String, String)> {
    let mut found = BTreeMap::new();
    let mut left: Vec<bool> = keys.ids.iter().map(Option::is_some).collect();
    for template in [Names::all_numbers, Names::first_number] {
        let mut groups: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (need, key) in needs.iter().zip(keys.iter()) {
            let (need_template, numbers) = template(&need.name);
            let key = match key {
                Some(key) => Names::with_numbers(&key, &numbers),
                // A tied one that is absent fits every template, one that keeps its name only that.
                None if need.tied_to.is_some() => continue,
                None => None,
            };
            match groups.get_mut(&need_template) {
                Some(old) if *old != key => *old = None,
                Some(_) => {}
                None => drop(groups.insert(need_template, key)),
            }
        }
        for (need, left) in needs.iter().zip(&mut left).filter(|(_, left)| **left) {
            let (need_template, _) = template(&need.name);
            if let Some(Some(key)) = groups.get(&need_template) {
                *left = false;
                found.insert(need_template, key.clone());
            }
        }
        if !left.contains(&true) {
            break;
        }
    }
    for ((need, key), left) in needs.iter().zip(keys.iter()).zip(left) {
        let key = key.filter(|_| left);
        found.extend(key.map(|key| (need.name.into_owned(), key.into_owned())));
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests;
