//! The parameters of a manifest, read as its file goes by.
//!
//! In: a manifest of any length, and the checkpoint that is held against it. Out: what the checkpoint
//! is held against, without the text, the graph, or a second copy of the names that both have. Nothing
//! where anything that is read here is wrong: then the manifest is read as a whole, which says what.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::BufReader;
use std::path::Path;

use indexmap::IndexSet;
use pycandle_checkpoint::{
    Checkpoint, Dtype, NameList, Need, Needs, TensorId, config_facts, open_file,
};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::check::{self, name_problem};
use super::{MAJORS, dims, json};
use crate::checkpoint::{self, Trace};

/// What the manifest at `path` says of its parameters and its config; `None` where it is to be read as
/// a whole.
pub(crate) fn parameters<'c>(path: &Path, checkpoint: &'c Checkpoint) -> Option<Trace<'c>> {
    let from = BufReader::with_capacity(1 << 16, open_file(path).ok()?);
    let mut de = serde_json::Deserializer::from_reader(from);
    let mut read = Read {
        checkpoint,
        version: None,
        config: None,
        found: None,
        ties: Vec::new(),
    };
    read.deserialize_into(&mut de).ok()?;
    de.end().ok()?;
    MAJORS.contains(&read.version?.0).then_some(())?;
    let mut found = read.found?;
    found.tie(&read.ties)?;
    let config = read.config.as_ref().map(ToString::to_string);
    Some(Trace {
        file: path.file_name()?.to_string_lossy().into_owned(),
        facts: config.as_deref().and_then(config_facts),
        needs: Box::new(found),
    })
}

/// Parameters after which it is noted how many were not in the checkpoint.
const STEP: usize = 64;

/// The parameters, by where the checkpoint has them: half a million take a few bytes each.
#[derive(Debug)]
struct Parameters<'c> {
    checkpoint: &'c Checkpoint,
    /// Which tensor of the checkpoint has name and shape of each; `None` where it has not both.
    places: Vec<Option<TensorId>>,
    dtypes: Vec<Dtype>,
    own: Own,
    /// Those that are tied to an earlier one.
    tied: BTreeMap<usize, usize>,
}

/// Names and shapes that the checkpoint does not have together, such as those of renamed keys.
#[derive(Debug, Default)]
struct Own {
    /// How many there are before the first parameter, and every so many behind it.
    before: Vec<u32>,
    /// The names, each with the number of its shape.
    names: NameList,
    shapes: IndexSet<Vec<usize>>,
}

impl Own {
    fn push(&mut self, name: &str, shape: Vec<usize>) -> Option<()> {
        let shape = self.shapes.insert_full(shape).0;
        self.names.push(name, u32::try_from(shape).ok()?)
    }

    /// That of the parameter of this number.
    fn get(&self, number: usize, places: &[Option<TensorId>]) -> (String, &[usize]) {
        let since = &places[number - number % STEP..number];
        let since = since.iter().filter(|place| place.is_none()).count();
        let at = self.before[number / STEP] as usize + since;
        let (name, shape) = self.names.get(at).unwrap_or_default();
        (name, &self.shapes[shape as usize])
    }
}

impl Needs for Parameters<'_> {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, number: usize) -> Need<'_> {
        let there = self.places[number].and_then(|id| self.checkpoint.at(id));
        let (name, shape) = match there {
            Some(tensor) => (Cow::Borrowed(tensor.name()), tensor.shape()),
            None => {
                let (name, shape) = self.own.get(number, &self.places);
                (Cow::Owned(name), shape)
            }
        };
        Need {
            name,
            shape,
            dtype: self.dtypes[number],
            tied_to: self.tied.get(&number).copied(),
        }
    }
}

impl<'c> Parameters<'c> {
    fn of(checkpoint: &'c Checkpoint) -> Self {
        // Most checkpoints hold what is needed and little else.
        let len = checkpoint.len();
        Self {
            checkpoint,
            places: Vec::with_capacity(len),
            dtypes: Vec::with_capacity(len),
            own: Own::default(),
            tied: BTreeMap::new(),
        }
    }

    fn push(&mut self, name: &str, shape: Vec<usize>, dtype: Dtype) -> Option<()> {
        if self.len().is_multiple_of(STEP) {
            self.own
                .before
                .push(u32::try_from(self.own.names.len()).ok()?);
        }
        let there = self.checkpoint.get(name);
        let there = there.filter(|tensor| *tensor.shape() == shape);
        if there.is_none() {
            self.own.push(name, shape)?;
        }
        self.places.push(there.map(|tensor| tensor.id()));
        self.dtypes.push(dtype);
        Some(())
    }

    /// Sets the twins, by their numbers and the names of the first that are the same tensor; `None`
    /// where names are not unique, or a twin is none.
    fn tie(&mut self, ties: &[(usize, String)]) -> Option<()> {
        u32::try_from(self.len()).ok()?;
        let needs: &dyn Needs = self;
        let by_name = needs.by_name();
        by_name.is_unique().then_some(())?;
        let firsts = ties.iter().map(|(id, twin)| {
            let first = by_name.find(twin)?;
            let is_tied = ties.binary_search_by_key(&first, |(id, _)| *id).is_ok();
            let (a, b) = (self.get(first), self.get(*id));
            let is_same = (a.shape, a.dtype) == (b.shape, b.dtype);
            (first < *id && !is_tied && is_same).then_some((*id, first))
        });
        self.tied = firsts.collect::<Option<_>>()?;
        Some(())
    }
}

/// What has been read so far.
struct Read<'c> {
    checkpoint: &'c Checkpoint,
    version: Option<(u32, u32)>,
    config: Option<serde_json::Value>,
    found: Option<Parameters<'c>>,
    /// Needs that are tied, and to which.
    ties: Vec<(usize, String)>,
}

impl<'c> Read<'c> {
    fn deserialize_into<'de, D: Deserializer<'de>>(&mut self, de: D) -> Result<(), D::Error> {
        de.deserialize_map(Top(self))
    }

    fn add(&mut self, found: &mut Parameters<'c>, param: json::Param<'_>) -> Option<()> {
        let is_sound =
            name_problem(&param.name).is_none() && dims::elements(&param.shape).is_some();
        is_sound.then_some(())?;
        if let Some(twin) = &param.tied_to {
            self.ties.push((found.len(), (**twin).to_owned()));
        }
        let dtype = checkpoint::dtype(check::dtype(param.dtype));
        found.push(&param.name, param.shape, dtype)
    }
}

/// The whole manifest.
struct Top<'r, 'c>(&'r mut Read<'c>);

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(read) = self;
        while let Some(key) = map.next_key::<String>()? {
            match &*key {
                "version" if read.version.is_none() => read.version = Some(map.next_value()?),
                "config" if read.config.is_none() => read.config = map.next_value()?,
                "parameters" if read.found.is_none() => map.next_value_seed(List(read))?,
                "version" | "config" | "parameters" => {
                    return Err(de::Error::custom("a field is there twice"));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The list of parameters, of which one is held at a time.
struct List<'r, 'c>(&'r mut Read<'c>);

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<(), D::Error> {
        de.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self(read) = self;
        let mut found = Parameters::of(read.checkpoint);
        while let Some(param) = seq.next_element::<json::Param<'de>>()? {
            let added = read.add(&mut found, param);
            added.ok_or_else(|| de::Error::custom("a parameter is not sound"))?;
        }
        read.found = Some(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pycandle_checkpoint::Snapshot;

    use super::*;

    fn trace(text: &str, hold: impl FnOnce(Option<Trace<'_>>)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m_manifest.json");
        std::fs::write(&path, text).expect("a file");
        let mut snapshot = Snapshot::default();
        let added = snapshot.tensor("a.weight", Dtype::BF16, &[2, 3]);
        added.expect("a tensor");
        hold(parameters(&path, &snapshot.into_checkpoint(&path, &path)));
    }

    /// A manifest with these fields behind the parameters, whose text is given.
    fn manifest(parameters: &str, rest: &str) -> String {
        format!(r#"{{"version":[1,0],"nodes":[{{"x":[1]}}],"parameters":[{parameters}]{rest}}}"#)
    }

    fn param(name: &str, shape: &str, tied_to: &str) -> String {
        format!(
            r#"{{"name":"{name}","kind":"parameter","dtype":"float32","shape":{shape},"tied_to":{tied_to}}}"#
        )
    }

    #[test]
    fn what_is_read_is_what_the_whole_manifest_says() {
        let models = std::fs::read_dir("../tests/models").expect("the models");
        let mut count = 0;
        for model in models.flatten().map(|model| model.path()) {
            if !model.to_string_lossy().ends_with("_manifest.json") {
                continue;
            }
            let whole = crate::raw::read(&model).expect("a manifest");
            let weights = model.with_file_name("llama.safetensors");
            let checkpoint = Checkpoint::open(weights).expect("a checkpoint");
            let trace = parameters(&model, &checkpoint).expect("a manifest that is whole");
            let of = Trace::of(&whole);
            assert_eq!((trace.file, trace.facts), (of.file, of.facts));
            assert!(
                trace.needs.iter().eq(of.needs.iter()),
                "{}",
                model.display()
            );
            count += 1;
        }
        assert!(count > 20, "{count} manifests");
    }

    #[test]
    fn what_the_checkpoint_does_not_have_is_read_as_well() {
        let list = [
            param("a.weight", "[2,3]", "null"),
            param("b", "[4]", "null"),
        ];
        trace(
            &manifest(&list.join(","), r#","config":{"vocab_size":3}"#),
            |trace| {
                let trace = trace.expect("a manifest");
                let need = |name, shape| Need {
                    name: Cow::Borrowed(name),
                    shape,
                    dtype: Dtype::F32,
                    tied_to: None,
                };
                let needs = [need("a.weight", &[2, 3][..]), need("b", &[4])];
                assert!(trace.needs.iter().eq(needs));
                assert_eq!(trace.facts.as_deref(), Some(r#"{"vocab_size":3}"#));
            },
        );
    }

    #[test]
    fn many_that_the_checkpoint_does_not_have_are_told_apart() {
        let there = [0, STEP - 1, STEP, 2 * STEP + 1];
        for there in there {
            let name = |n: usize| match n == there {
                true => "a.weight".to_owned(),
                false => format!("b.{n}"),
            };
            let shape = |n: usize| if n == there { [2, 3] } else { [n % 5, 7] };
            let all = 0..3 * STEP;
            let list = all.clone().map(|n| {
                let [rows, columns] = shape(n);
                param(&name(n), &format!("[{rows},{columns}]"), "null")
            });
            let list: Vec<_> = list.collect();
            trace(&manifest(&list.join(","), ""), |trace| {
                let trace = trace.expect("a manifest");
                for n in all {
                    let need = trace.needs.get(n);
                    assert_eq!((&*need.name, need.shape), (&*name(n), &shape(n)[..]));
                }
            });
        }
    }

    #[test]
    fn what_is_wrong_is_left_to_the_whole() {
        let a = param("a", "[2]", "null");
        for (list, rest) in [
            (format!("{a},{a}"), ""),
            (param("", "[2]", "null"), ""),
            (param("a", "[-1]", "null"), ""),
            (param("a", "[1152921504606846976,8]", "null"), ""),
            (param("a", "[2]", r#""b""#), ""),
            (format!("{a},{}", param("b", "[3]", r#""a""#)), ""),
            (format!("{},{a}", param("b", "[2]", r#""a""#)), ""),
            (
                [
                    a.clone(),
                    param("b", "[2]", r#""a""#),
                    param("c", "[2]", r#""b""#),
                ]
                .join(","),
                "",
            ),
            (a.clone(), r#","parameters":[]"#),
            (a.clone(), r#","version":[1,0]"#),
            (a.clone(), ","),
            (format!("{a},"), ""),
        ] {
            trace(&manifest(&list, rest), |trace| {
                assert!(trace.is_none(), "{list} {rest}");
            });
        }
        trace(&manifest(&a, "").replace("[1,0]", "[9,0]"), |trace| {
            assert!(trace.is_none())
        });
        trace(&manifest(&a, ""), |trace| assert!(trace.is_some()));
    }
}
