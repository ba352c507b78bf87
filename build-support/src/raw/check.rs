//! Elements of the right form → [`Manifest`]: names are unique, references resolve, sizes make sense.

use std::collections::{HashMap, HashSet};

use super::dims::{self, Symbols};
use super::{Elements, Source, json};
use crate::manifest::{
    Arg, Call, CallId, ConstId, Constant, Dim, Dtype, Input, Manifest, Module, ModuleId, Node,
    Output, Param, ParamId, Source as From, State, Symbol, SymbolId, Value, ValueId,
};

/// More layers than any model has; a cache is allocated per layer.
const MAX_LAYERS: usize = 65_536;

/// Everything that a name can refer to, filled in file order.
#[derive(Default)]
struct Names<'s> {
    symbols: Symbols<'s>,
    values: HashMap<&'s str, ValueId>,
    params: HashMap<&'s str, ParamId>,
    constants: HashMap<&'s str, ConstId>,
    modules: HashMap<&'s str, ModuleId>,
}

struct Checker<'c, 's, 'a> {
    source: &'c mut Source<'a>,
    raw: &'s Elements<'a>,
    names: Names<'s>,
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
    let symbols = c.symbols();
    let inputs = c.inputs();
    let params = c.params();
    let constants = c.constants();
    let modules = c.modules();
    let calls = c.calls();
    let nodes = c.nodes();
    let calls = c.call_outputs(calls);
    let outputs = c.outputs();
    c.bound(&symbols);
    let states = c.states(&inputs, &outputs);
    let values = c.values;
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
        inputs,
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

impl<'s> Checker<'_, 's, '_> {
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

    fn symbols(&mut self) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(self.raw.symbols.len());
        for (i, element) in self.raw.symbols.iter().enumerate() {
            let symbol = &element.is;
            if !is_identifier(&symbol.name) {
                self.not_identifier(element.line, format!("symbols[{i}].name"), &symbol.name);
            }
            if self
                .names
                .symbols
                .insert(&symbol.name, SymbolId(i))
                .is_some()
            {
                self.twice(
                    element.line,
                    format!("symbols[{i}].name"),
                    "symbol",
                    &symbol.name,
                );
            }
            if let Some(max) = symbol.max.filter(|&max| max < symbol.min) {
                let message = format!("the range {}..={max} is empty", symbol.min);
                self.source
                    .error(element.line, format!("symbols[{i}].max"), message);
            }
            symbols.push(Symbol {
                name: (*symbol.name).to_owned(),
                min: symbol.min,
                max: symbol.max,
            });
        }
        symbols
    }

    fn inputs(&mut self) -> Vec<Input> {
        let mut inputs = Vec::with_capacity(self.raw.inputs.len());
        for (i, element) in self.raw.inputs.iter().enumerate() {
            let input = &element.is;
            let field = || format!("inputs[{i}]");
            if !is_identifier(&input.name) {
                self.not_identifier(element.line, field() + ".name", &input.name);
            }
            let value = self.define(
                element.line,
                field,
                &input.name,
                input.dtype,
                &input.shape,
                None,
            );
            let (name, path) = ((*input.name).to_owned(), (*input.path).to_owned());
            inputs.push(Input { name, path, value });
        }
        inputs
    }

    fn params(&mut self) -> Vec<Param> {
        let mut params: Vec<Param> = Vec::with_capacity(self.raw.parameters.len());
        for (i, element) in self.raw.parameters.iter().enumerate() {
            let param = &element.is;
            let field = |name: &str| format!("parameters[{i}].{name}");
            self.checked_name(element.line, || field("name"), &param.name);
            let tied_to = param.tied_to.as_ref().and_then(|twin| {
                let id = self.names.params.get(&**twin).copied();
                match id.map(|ParamId(index)| &params[index]) {
                    None => {
                        let message =
                            format!("no parameter before this one is named `{}`", &**twin);
                        self.source.error(element.line, field("tied_to"), message);
                    }
                    Some(first) if first.tied_to.is_some() => {
                        let message =
                            format!("`{}` is tied itself, name the first of them", &**twin);
                        self.source.error(element.line, field("tied_to"), message);
                    }
                    Some(first)
                        if first.shape != param.shape || first.dtype != dtype(param.dtype) =>
                    {
                        let message = format!("`{}` has another shape or dtype", &**twin);
                        self.source.error(element.line, field("tied_to"), message);
                    }
                    Some(_) => {}
                }
                id
            });
            if dims::elements(&param.shape).is_none() {
                self.source.error(
                    element.line,
                    field("shape"),
                    "the tensor is too large to address",
                );
            }
            if self.names.params.insert(&param.name, ParamId(i)).is_some() {
                self.twice(element.line, field("name"), "parameter", &param.name);
            }
            params.push(Param {
                name: (*param.name).to_owned(),
                buffer: param.kind == json::ParamKind::Buffer,
                dtype: dtype(param.dtype),
                shape: param.shape.clone(),
                tied_to,
            });
        }
        params
    }

    fn constants(&mut self) -> Vec<Constant> {
        let mut constants = Vec::with_capacity(self.raw.constants.len());
        for (i, element) in self.raw.constants.iter().enumerate() {
            let constant = &element.is;
            let field = |name: &str| format!("constants[{i}].{name}");
            self.checked_name(element.line, || field("name"), &constant.name);
            if self
                .names
                .constants
                .insert(&constant.name, ConstId(i))
                .is_some()
            {
                self.twice(element.line, field("name"), "constant", &constant.name);
            }
            let dtype = dtype(constant.dtype);
            let data = match dims::elements(&constant.shape) {
                None => Err(("shape", "the tensor is too large to address".to_owned())),
                Some(count) => {
                    super::data::data(&constant.data, dtype, count).map_err(|m| ("data", m))
                }
            };
            match data {
                Ok(data) => constants.push(Constant {
                    name: (*constant.name).to_owned(),
                    dtype,
                    shape: constant.shape.clone(),
                    data,
                }),
                Err((name, message)) => self.source.error(element.line, field(name), message),
            }
        }
        constants
    }

    fn modules(&mut self) -> Vec<Module> {
        let mut modules = Vec::with_capacity(self.raw.modules.len());
        for (i, element) in self.raw.modules.iter().enumerate() {
            let path = &*element.is.path;
            let field = |name: &str| format!("modules[{i}].{name}");
            if (i == 0) != path.is_empty() {
                let message = "the first module, and no other, is the root with the path \"\"";
                self.source.error(element.line, field("path"), message);
            } else if !path.is_empty() {
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                if path.split('.').any(str::is_empty) {
                    let message = format!("`{path}` has an empty part");
                    self.source.error(element.line, field("path"), message);
                } else if !self.names.modules.contains_key(parent) {
                    let message = format!("its parent `{parent}` does not come before it");
                    self.source.error(element.line, field("path"), message);
                }
                self.checked_name(element.line, || field("path"), path);
            }
            self.checked_name(element.line, || field("class"), &element.is.class);
            if self.names.modules.insert(path, ModuleId(i)).is_some() {
                self.twice(element.line, field("path"), "module", path);
            }
            let class = last(&element.is.class).to_owned();
            modules.push(Module {
                path: path.to_owned(),
                class,
            });
        }
        if modules.is_empty() {
            self.source
                .error(1, "modules", "the root module is missing");
        }
        modules
    }

    /// Calls without their outputs, which name values of nodes.
    fn calls(&mut self) -> Vec<Call> {
        let mut counts = HashMap::new();
        let mut calls = Vec::with_capacity(self.raw.calls.len());
        for (i, element) in self.raw.calls.iter().enumerate() {
            let call = &element.is;
            let field = |name: &str| format!("calls[{i}].{name}");
            let module = self.names.modules.get(&*call.module).copied();
            match module {
                None => {
                    let message = format!("no module has the path `{}`", &*call.module);
                    self.source.error(element.line, field("module"), message);
                }
                Some(ModuleId(module)) if (i == 0) != (module == 0) => {
                    let message = "the first call, and no other, is that of the root";
                    self.source.error(element.line, field("module"), message);
                }
                Some(_) => {}
            }
            let count: &mut usize = counts.entry(&*call.module).or_default();
            if call.index != *count {
                let message = format!(
                    "this is call {count} of `{}`, not {}",
                    &*call.module, call.index
                );
                self.source.error(element.line, field("index"), message);
            }
            *count += 1;
            match (i, call.parent) {
                (0, None) => {}
                (0, Some(_)) => {
                    self.source
                        .error(element.line, field("parent"), "the root call has no parent")
                }
                (_, Some(parent)) if parent < i => {}
                _ => self.source.error(
                    element.line,
                    field("parent"),
                    "the parent must be an earlier call",
                ),
            }
            calls.push(Call {
                module: module.unwrap_or(ModuleId(0)),
                index: call.index,
                parent: call.parent.filter(|&parent| parent < i).map(CallId),
                outputs: Vec::new(),
            });
        }
        if calls.is_empty() {
            self.source
                .error(1, "calls", "the call of the root module is missing");
        }
        calls
    }

    fn nodes(&mut self) -> Vec<Node> {
        let mut nodes = Vec::with_capacity(self.raw.nodes.len());
        let mut seen = HashSet::new();
        for (i, element) in self.raw.nodes.iter().enumerate() {
            let node = &element.is;
            if node.op.is_empty()
                || node
                    .op
                    .contains(|c: char| c.is_whitespace() || c.is_control())
            {
                self.source.error(
                    element.line,
                    format!("nodes[{i}].op"),
                    "not the name of an operator",
                );
            }
            if node.call >= self.raw.calls.len() {
                let message = format!("there is no call {}", node.call);
                self.source
                    .error(element.line, format!("nodes[{i}].call"), message);
            }
            seen.clear();
            let mut args = Vec::with_capacity(node.args.0.len());
            for (name, arg) in &node.args.0 {
                let field = || format!("nodes[{i}].args.{}", &**name);
                if !seen.insert(&**name) {
                    self.source
                        .error(element.line, field(), "the argument is given twice");
                }
                match self.arg(arg) {
                    Ok(arg) => args.push(((**name).to_owned(), arg)),
                    Err(message) => self.source.error(element.line, field(), message),
                }
            }
            let out = node.out.iter().enumerate().map(|(j, out)| {
                let field = || format!("nodes[{i}].out[{j}]");
                self.define(
                    element.line,
                    field,
                    &out.name,
                    out.dtype,
                    &out.shape,
                    Some(node.call),
                )
            });
            let out = out.collect();
            nodes.push(Node {
                op: (*node.op).to_owned(),
                args,
                out,
                call: CallId(node.call),
                at: node.at.as_ref().map(|at| at.replace(char::is_control, " ")),
                line: element.line,
            });
        }
        nodes
    }

    fn call_outputs(&mut self, mut calls: Vec<Call>) -> Vec<Call> {
        for (i, element) in self.raw.calls.iter().enumerate() {
            for (j, name) in element.is.outputs.iter().enumerate() {
                let id = self.names.values.get(&**name).copied();
                let problem = match id {
                    None => Some(format!("no value is named `{}`", &**name)),
                    Some(ValueId(value)) if !is_inside(&calls, self.made_in[value], i) => {
                        Some(format!("`{}` is not made inside this call", &**name))
                    }
                    Some(id) => {
                        calls[i].outputs.push(id);
                        None
                    }
                };
                if let Some(message) = problem {
                    self.source
                        .error(element.line, format!("calls[{i}].outputs[{j}]"), message);
                }
            }
        }
        calls
    }

    fn outputs(&mut self) -> Vec<Output> {
        let mut names = HashSet::new();
        let mut outputs = Vec::with_capacity(self.raw.outputs.len());
        for (i, element) in self.raw.outputs.iter().enumerate() {
            let output = &element.is;
            let field = |name: &str| format!("outputs[{i}].{name}");
            if !is_identifier(&output.name) {
                self.not_identifier(element.line, field("name"), &output.name);
            }
            if !names.insert(&*output.name) {
                self.twice(element.line, field("name"), "output", &output.name);
            }
            let value = match self.arg(&output.value) {
                Ok(Arg::Tensor(value)) => value,
                Ok(_) => {
                    self.source.error(
                        element.line,
                        field("value"),
                        "expected a reference to a tensor",
                    );
                    continue;
                }
                Err(message) => {
                    self.source.error(element.line, field("value"), message);
                    continue;
                }
            };
            let (name, path) = ((*output.name).to_owned(), (*output.path).to_owned());
            outputs.push(Output { name, path, value });
        }
        if self.raw.outputs.is_empty() {
            self.source.error(1, "outputs", "the model has no output");
        }
        outputs
    }

    /// Each symbol is the size of an input, or nothing could tell it at run time.
    fn bound(&mut self, symbols: &[Symbol]) {
        let inputs = &self.values[..self.raw.inputs.len().min(self.values.len())];
        let bound: HashSet<_> = inputs
            .iter()
            .flat_map(|value| &value.shape)
            .cloned()
            .collect();
        for (i, symbol) in symbols.iter().enumerate() {
            if !bound.contains(&Dim::Sym(SymbolId(i))) {
                let message = format!("no input has `{}` as one of its sizes", symbol.name);
                self.source
                    .error(self.raw.symbols[i].line, format!("symbols[{i}]"), message);
            }
        }
    }

    fn states(&mut self, inputs: &[Input], outputs: &[Output]) -> Vec<State> {
        let mut used = HashSet::new();
        let mut states = Vec::with_capacity(self.raw.states.len());
        for (i, element) in self.raw.states.iter().enumerate() {
            let state = &element.is;
            let field = |name: &str| format!("states[{i}].{name}");
            for (name, text) in [("name", &state.name), ("slot", &state.slot)] {
                if !is_identifier(text) {
                    self.not_identifier(element.line, field(name), text);
                }
            }
            if state.layer >= MAX_LAYERS {
                self.source.error(
                    element.line,
                    field("layer"),
                    "there are not that many layers",
                );
            }
            let input = inputs.iter().position(|input| input.name == *state.input);
            let output = outputs
                .iter()
                .position(|output| output.name == *state.output);
            let fresh = used.insert((0, &*state.input, 0, ""))
                & used.insert((1, &*state.output, 0, ""))
                & used.insert((2, &*state.name, state.layer, &*state.slot));
            if !fresh {
                self.source.error(
                    element.line,
                    field("slot"),
                    "another state has the same slot, input or output",
                );
            }
            let (input, output) = match (input, output) {
                (Some(input), Some(output)) => (input, output),
                (None, _) => {
                    let message = format!("no input is named `{}`", &*state.input);
                    self.source.error(element.line, field("input"), message);
                    continue;
                }
                (_, None) => {
                    let message = format!("no output is named `{}`", &*state.output);
                    self.source.error(element.line, field("output"), message);
                    continue;
                }
            };
            if let Some((name, message)) =
                self.state_problem(inputs[input].value, outputs[output].value, state.dim)
            {
                self.source.error(element.line, field(name), message);
            }
            states.push(State {
                name: (*state.name).to_owned(),
                layer: state.layer,
                slot: (*state.slot).to_owned(),
                input,
                output,
                dim: state.dim,
            });
        }
        states
    }

    /// Why this output cannot be that input, extended along `dim`.
    fn state_problem(
        &self,
        input: ValueId,
        output: From,
        dim: usize,
    ) -> Option<(&'static str, &'static str)> {
        let From::Value(output) = output else {
            return Some(("output", "a parameter or constant does not extend an input"));
        };
        let (input, output) = (&self.values[input.0], &self.values[output.0]);
        if input.shape.len() != output.shape.len() || input.dtype != output.dtype {
            return Some((
                "output",
                "the output has another rank or dtype than the input",
            ));
        }
        if dim >= input.shape.len() {
            return Some(("dim", "the tensor has fewer dimensions"));
        }
        let differs = |(i, (a, b)): (usize, (&Dim, &Dim))| {
            i != dim && matches!((a, b), (Dim::Size(a), Dim::Size(b)) if a != b)
        };
        let sizes = input.shape.iter().zip(&output.shape);
        sizes.enumerate().any(differs).then_some((
            "output",
            "the output differs in another dimension than `dim`",
        ))
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
        name: &'s json::Str<'_>,
        of: json::Dtype,
        shape: &[json::Dim<'_>],
        call: Option<usize>,
    ) -> ValueId {
        let id = ValueId(self.values.len());
        self.checked_name(line, || field() + ".name", name);
        if self.names.values.insert(name, id).is_some() {
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

/// Whether something made in `call` was made inside the call `outer`.
fn is_inside(calls: &[Call], call: Option<usize>, outer: usize) -> bool {
    if call.is_some_and(|call| call >= calls.len()) {
        // The node's call is reported already.
        return true;
    }
    let mut next = call;
    while let Some(call) = next.filter(|&call| call >= outer) {
        if call == outer {
            return true;
        }
        next = calls[call].parent.map(|CallId(parent)| parent);
    }
    false
}

fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && text != "_" && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Why a text cannot be the name of anything.
fn name_problem(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("the name is empty"),
        text if text.contains(char::is_control) => Some("the name has a control character"),
        _ => None,
    }
}

/// A class without its Python module.
fn last(class: &str) -> &str {
    class.rsplit_once('.').map_or(class, |(_, name)| name)
}

fn dtype(name: json::Dtype) -> Dtype {
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
