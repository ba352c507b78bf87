//! JSON text → checked [`Manifest`]. Nothing else in the crate knows the JSON.
//!
//! In: the text of a manifest, which may be cut, edited by hand or hostile. Out: a manifest in which
//! every reference resolves, or a report with a line and a field path for each thing that is wrong.

mod check;
mod data;
mod dims;
pub(crate) mod json;
mod list;
pub(crate) mod locate;
mod parameters;
mod text;

use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::manifest::Manifest;
use crate::ops::shapes;
use crate::report::{At, Error, Report};
use list::{Items, List};
use locate::{Lines, plain};
pub(crate) use parameters::parameters;

/// The formats that this version reads, any minor of them; 2 has `conditions` of the sizes.
const MAJORS: std::ops::RangeInclusive<u32> = 1..=2;

/// Reads and checks the manifest at `path`.
///
/// # Errors
/// An unreadable file, or everything that [`parse`] finds.
///
/// ```
/// let manifest = pycandle_build::raw::read("../tests/models/mlp_manifest.json".as_ref())?;
/// assert_eq!((&*manifest.class, manifest.params.len()), ("Mlp", 4));
/// # Ok::<(), pycandle_build::Report>(())
/// ```
pub fn read(path: &Path) -> Result<Manifest, Report> {
    read_shown(path, path)
}

/// [`read`], with the path as the user wrote it for messages.
///
/// # Errors
/// As [`read`].
///
/// ```
/// let report = pycandle_build::raw::read_shown("a/b/c.json".as_ref(), "c.json".as_ref());
/// assert!(report.is_err_and(|report| report.to_string().contains("no manifest at `c.json`")));
/// ```
pub fn read_shown(path: &Path, shown: &Path) -> Result<Manifest, Report> {
    let name = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let bytes = read_text(path).map_err(|error| {
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => format!(
                "no manifest at `{}`, record one with `python -m pycandle record`",
                shown.display()
            ),
            _ => format!("cannot read the manifest `{}`: {error}", shown.display()),
        };
        Error::whole(At::default(), message)
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .iter()
            .filter(|&&b| b == b'\n')
            .count()
            + 1;
        Error::manifest(At::file(&*name).line(line), "the file is not UTF-8 text")
    })?;
    parse(&name, text)
}

/// All of a file, unless its first bytes are those of a checkpoint, which may be of any size.
fn read_text(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    (&mut file).take(16).read_to_end(&mut bytes)?;
    // A header's length in 64 bits, and the header.
    let is_safetensors = bytes.get(4..9) == Some(b"\0\0\0\0{");
    if is_safetensors || bytes.starts_with(b"GGUF") {
        let text = "it is a checkpoint: give it as the weights, and as the manifest what \
                    `python -m pycandle record` wrote";
        return Err(std::io::Error::other(text));
    }
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the manifest in `text`; `file_name` is for messages and the generated header.
///
/// # Errors
/// Every element that breaks the format, with its line and field path.
/// References are checked only when all elements have the right form, shapes only when all
/// references resolve.
///
/// ```
/// let report = pycandle_build::raw::parse("m_manifest.json", "{\"version\": [1, 0],").unwrap_err();
/// assert!(report.to_string().contains("m_manifest.json:1"));
/// ```
pub fn parse(file_name: &str, text: &str) -> Result<Manifest, Report> {
    let mut source = Source {
        file: file_name,
        text,
        lines: Rc::new(Lines::new(text)),
        report: Report::new(),
    };
    let top: Result<json::Top, (usize, String)> = match locate::no_object(text) {
        Some(problem) => Err(problem),
        None => serde_json::from_str(text)
            .map_err(|error| (locate::error_offset(text, &error), plain(&error))),
    };
    let top = match top {
        Ok(top) => top,
        Err((offset, message)) => {
            let at = At::file(file_name).line(source.lines.at(offset));
            source.report.push(Error::manifest(at, message));
            return Err(source.report);
        }
    };
    let version = source.version(top.version)?;
    let manifest = match source.elements(&top, version) {
        Some(elements) => check::check(&mut source, &elements),
        None => None,
    };
    let Some(manifest) = manifest else {
        return Err(source.report);
    };
    for wrong in shapes::check(&manifest) {
        let line = manifest.nodes[wrong.node].line;
        let field = format!("nodes[{}].{}", wrong.node, wrong.field);
        source.error(line, field, wrong.message);
    }
    source.report.into_result(manifest)
}

/// The text being read, and what is wrong with it so far.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
    lines: Rc<Lines<'a>>,
    report: Report,
}

/// One element of a list, with its line.
struct Element<T> {
    line: usize,
    is: T,
}

/// Everything in the file, each element of the right form.
struct Elements<'a> {
    version: (u32, u32),
    recorder: Vec<(json::Str<'a>, json::Str<'a>)>,
    model: Element<json::Model<'a>>,
    dtype: json::Dtype,
    symbols: Vec<Element<json::Symbol<'a>>>,
    conditions: Vec<Element<json::Condition<'a>>>,
    inputs: Vec<Element<json::Input<'a>>>,
    fixed_inputs: Vec<Element<json::FixedInput<'a>>>,
    outputs: Vec<Element<json::Output<'a>>>,
    states: Vec<Element<json::State<'a>>>,
    parameters: List<'a, json::Param<'a>>,
    constants: Vec<Element<json::Constant<'a>>>,
    modules: List<'a, json::Module<'a>>,
    calls: List<'a, json::Call<'a>>,
    nodes: List<'a, json::Node<'a>>,
    config: Option<serde_json::Value>,
}

impl<'a> Source<'a> {
    fn error(&mut self, line: usize, field: impl Into<String>, message: impl Into<String>) {
        self.report.push(Error::manifest(
            At::file(self.file).line(line).field(field),
            message,
        ));
    }

    /// The version, if this reader knows the format.
    fn version(&mut self, raw: Option<&'a RawValue>) -> Result<(u32, u32), Report> {
        let version: Option<(u32, u32)> = self.field("version", raw);
        match version {
            Some(known) if MAJORS.contains(&known.0) => return Ok(known),
            Some((major, minor)) => {
                let mend = match major > *MAJORS.end() {
                    true => {
                        "upgrade the `pycandle` crates, or record again with an older `pycandle-recorder`"
                    }
                    false => "record again with a current `pycandle-recorder`",
                };
                let line = raw.map_or(1, |raw| self.lines.of(raw.get()));
                let message = format!(
                    "the manifest has format version {major}.{minor}, this pycandle reads {}.* to {}.*: {mend}",
                    MAJORS.start(),
                    MAJORS.end()
                );
                self.error(line, "version", message);
            }
            None => {}
        }
        Err(std::mem::take(&mut self.report))
    }

    fn elements(&mut self, top: &json::Top<'a>, version: (u32, u32)) -> Option<Elements<'a>> {
        let recorder: Option<json::Entries<json::Str>> = self.field("recorder", top.recorder);
        let model = self.field("model", top.model);
        let dtype = self.field("dtype", top.dtype);
        let symbols = self.list("symbols", top.symbols);
        let conditions = match top.conditions {
            Some(raw) => self.list("conditions", Some(raw)),
            None => Some(Vec::new()),
        };
        let inputs = self.list("inputs", top.inputs);
        let fixed_inputs = self.list("fixed_inputs", top.fixed_inputs);
        let outputs = self.list("outputs", top.outputs);
        let states = self.list("states", top.states);
        let parameters = self.long_list("parameters", top.parameters);
        let constants = self.list("constants", top.constants);
        let modules = self.long_list("modules", top.modules);
        let calls = self.long_list("calls", top.calls);
        let nodes = self.long_list("nodes", top.nodes);
        let config = match top.config {
            Some(raw) => self.field("config", Some(raw)),
            None => None,
        };
        Some(Elements {
            version,
            recorder: recorder?.0,
            model: Element {
                line: top.model.map_or(1, |raw| self.lines.of(raw.get())),
                is: model?,
            },
            dtype: dtype?,
            symbols: symbols?,
            conditions: conditions?,
            inputs: inputs?,
            fixed_inputs: fixed_inputs?,
            outputs: outputs?,
            states: states?,
            parameters: parameters?,
            constants: constants?,
            modules: modules?,
            calls: calls?,
            nodes: nodes?,
            config: config.unwrap_or(None),
        })
    }

    /// One field of the top level.
    fn field<T: Deserialize<'a>>(&mut self, name: &str, raw: Option<&'a RawValue>) -> Option<T> {
        match raw {
            Some(raw) => self.element(|| name.to_owned(), raw),
            None => {
                self.error(1, name, "the field is missing");
                None
            }
        }
    }

    /// A list of the top level; `None` when any of its elements is malformed.
    fn list<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        raw: Option<&'a RawValue>,
    ) -> Option<Vec<Element<T>>> {
        Some(self.long_list(name, raw)?.iter().collect())
    }

    /// [`Self::list`], of which an element is there while it is looked at.
    fn long_list<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        raw: Option<&'a RawValue>,
    ) -> Option<List<'a, T>> {
        // Not a list, or absent.
        let is_list = raw.is_some_and(|raw| raw.get().starts_with('['));
        let text = match raw {
            Some(raw) if is_list => raw.get(),
            _ => {
                self.field::<Vec<IgnoredAny>>(name, raw)?;
                return None;
            }
        };
        let (mut len, mut sound) = (0, true);
        for item in Items::<T>::new(text) {
            if let Err(raw) = item {
                sound = false;
                self.element::<T>(|| format!("{name}[{len}]"), raw);
            }
            len += 1;
        }
        let (lines, of) = (Rc::clone(&self.lines), PhantomData);
        sound.then_some(List {
            text,
            lines,
            len,
            of,
        })
    }

    fn element<T: Deserialize<'a>>(
        &mut self,
        name: impl FnOnce() -> String,
        raw: &'a RawValue,
    ) -> Option<T> {
        match serde_json::from_str(raw.get()) {
            Ok(element) => Some(element),
            Err(error) => {
                let offset = locate::error_offset(raw.get(), &error);
                let field = name() + &locate::path_to(raw.get(), offset);
                let start = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
                let line = self.lines.at(start + offset);
                self.error(line, field, plain(&error));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
