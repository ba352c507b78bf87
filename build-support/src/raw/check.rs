//! Elements of the right form → [`Manifest`]: names are unique, references resolve, sizes make sense.

mod graph;
mod signature;
mod tensors;

use std::collections::HashMap;

use super::dims::{self, Symbols};
use super::json::Str;
use super::{Elements, Source, json};
use crate::manifest::{
    Arg, ConstId, Dtype, Manifest, ModuleId, ParamId, Source as From, Value, ValueId,
};

/// Everything that a name can refer to, filled in file order.
#[derive(Default)]
struct Names<'s, 'a> {
    symbols: Symbols<'s>,
    values: HashMap<Str<'a>, ValueId>,
    params: HashMap<Str<'a>, ParamId>,
    constants: HashMap<&'s str, ConstId>,
    modules: HashMap<Str<'a>, ModuleId>,
}

struct Checker<'c, 's, 'a> {
    source: &'c mut Source<'a>,
    raw: &'s Elements<'a>,
    names: Names<'s, 'a>,
    values: Vec<Value>,
    /// The call in which a value was made; `None` for inputs.
    made_in: Vec<Option<usize>>,
}

/// The manifest, or `None` with the reasons in the source's report.
pub(super) fn check<'a>(source: &mut Source<'a>, raw: &Elements<'a>) -> Option<Manifest> {
    let file = source.file.to_owned();
    let mut c = Checker {
        source,
        raw,
        names: Names::default(),
        values: Vec::new(),
        made_in: Vec::new(),
    };
    c.identity();
    c.symbols();
    let conditions = c.conditions();
    let inputs = c.inputs();
    let params = c.params();
    let constants = c.constants();
    let modules = c.modules();
    let calls = c.calls();
    let nodes = c.nodes();
    let calls = c.call_outputs(calls);
    let outputs = c.outputs();
    c.bound();
    let states = c.states(&inputs, &outputs);
    let (values, symbols) = (c.values, c.names.symbols.ranges);
    source.report.is_empty().then(|| Manifest {
        file,
        version: raw.version,
        recorder: raw
            .recorder
            .iter()
            .map(|(k, v)| ((**k).to_owned(), (**v).to_owned()))
            .collect(),
        name: (*raw.model.is.name).to_owned(),
        class: last(&raw.model.is.class).to_owned(),
        output_class: raw
            .model
            .is
            .output_class
            .as_ref()
            .map(|class| last(class).to_owned()),
        dtype: dtype(raw.dtype),
        symbols,
        conditions,
        inputs,
        fixed_inputs: fixed(raw),
        outputs,
        states,
        params,
        constants,
        modules,
        calls,
        nodes,
        values,
        config: raw.config.clone(),
    })
}

/// Arguments that are no tensors, as they are written in Python.
fn fixed(raw: &Elements<'_>) -> Vec<(String, String)> {
    let fixed = raw.fixed_inputs.iter().map(|fixed| {
        let value = match &fixed.is.value {
            serde_json::Value::Bool(true) => "True".to_owned(),
            serde_json::Value::Bool(false) => "False".to_owned(),
            // A float that JSON has no number for.
            serde_json::Value::Object(float) => match float.get("float") {
                Some(serde_json::Value::String(name)) => name.escape_debug().to_string(),
                _ => fixed.is.value.to_string(),
            },
            other => other.to_string(),
        };
        ((*fixed.is.name).to_owned(), value)
    });
    fixed.collect()
}

impl<'a> Checker<'_, '_, 'a> {
    fn identity(&mut self) {
        let model = &self.raw.model;
        for (field, text) in [
            ("model.name", &model.is.name),
            ("model.class", &model.is.class),
        ] {
            if let Some(problem) = name_problem(text) {
                self.source.error(model.line, field, problem);
            }
        }
    }

    fn arg(&self, arg: &json::Arg<'_>) -> Result<Arg, String> {
        let find = |what: &str, name: &str, source: Option<From>| {
            source
                .map(Arg::Tensor)
                .ok_or_else(|| format!("no {what} is named `{name}`"))
        };
        Ok(match arg {
            json::Arg::Null => Arg::Null,
            json::Arg::Bool(value) => Arg::Bool(*value),
            json::Arg::Int(value) => Arg::Int(*value),
            json::Arg::Float(value) => Arg::Float(*value),
            json::Arg::Str(text) => Arg::Str((**text).to_owned()),
            json::Arg::List(items) => Arg::List(
                items
                    .iter()
                    .map(|item| self.arg(item))
                    .collect::<Result<_, _>>()?,
            ),
            json::Arg::Value(name) => {
                let id = self.names.values.get(&**name);
                find("earlier value", name, id.map(|&id| From::Value(id)))?
            }
            json::Arg::Param(name) => {
                let id = self.names.params.get(&**name);
                find("parameter", name, id.map(|&id| From::Param(id)))?
            }
            json::Arg::Const(name) => {
                let id = self.names.constants.get(&**name);
                find("constant", name, id.map(|&id| From::Const(id)))?
            }
            json::Arg::Sym(dim) => Arg::Sym(dims::expression(dim, &self.names.symbols)?),
            json::Arg::Dtype(name) => Arg::Dtype(dtype(*name)),
            json::Arg::Device => Arg::Device,
            json::Arg::Enum(name) => Arg::Enum((**name).to_owned()),
        })
    }

    fn define(
        &mut self,
        line: usize,
        field: impl Fn() -> String,
        name: &Str<'a>,
        of: json::Dtype,
        shape: &[json::Dim<'_>],
        call: Option<usize>,
    ) -> ValueId {
        let id = ValueId(self.values.len());
        self.checked_name(line, || field() + ".name", name);
        if self.names.values.insert(name.clone(), id).is_some() {
            self.twice(line, field() + ".name", "value", name);
        }
        let mut sizes = Vec::with_capacity(shape.len());
        for (i, dim) in shape.iter().enumerate() {
            match dims::size(dim, &self.names.symbols) {
                Ok(dim) => sizes.push(dim),
                Err(message) => self
                    .source
                    .error(line, format!("{}.shape[{i}]", field()), message),
            }
        }
        if dims::overflows(&sizes) {
            self.source.error(
                line,
                field() + ".shape",
                "the tensor is too large to address",
            );
        }
        self.values.push(Value {
            name: (**name).to_owned(),
            dtype: dtype(of),
            shape: sizes,
        });
        self.made_in.push(call);
        id
    }

    fn checked_name(&mut self, line: usize, field: impl Fn() -> String, name: &str) {
        if let Some(problem) = name_problem(name) {
            self.source.error(line, field(), problem);
        }
    }

    fn not_identifier(&mut self, line: usize, field: String, name: &str) {
        self.source
            .error(line, field, format!("`{name}` is not an identifier"));
    }

    fn twice(&mut self, line: usize, field: String, what: &str, name: &str) {
        self.source
            .error(line, field, format!("a second {what} is named `{name}`"));
    }
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && text != "_" && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Why a text cannot be the name of anything.
pub(super) fn name_problem(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("the name is empty"),
        text if text.contains(char::is_control) => Some("the name has a control character"),
        _ => None,
    }
}

/// A text of the model's, on one line.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A class without its Python module.
fn last(class: &str) -> &str {
    class.rsplit_once('.').map_or(class, |(_, name)| name)
}

pub(super) fn dtype(name: json::Dtype) -> Dtype {
    match name {
        json::Dtype::Bool => Dtype::Bool,
        json::Dtype::Uint8 => Dtype::Uint8,
        json::Dtype::Int8 => Dtype::Int8,
        json::Dtype::Int16 => Dtype::Int16,
        json::Dtype::Int32 => Dtype::Int32,
        json::Dtype::Int64 => Dtype::Int64,
        json::Dtype::Float16 => Dtype::Float16,
        json::Dtype::Bfloat16 => Dtype::Bfloat16,
        json::Dtype::Float32 => Dtype::Float32,
        json::Dtype::Float64 => Dtype::Float64,
    }
}
