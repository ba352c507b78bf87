//! What a model takes, gives and keeps: symbols, inputs, outputs and states.

use std::collections::HashSet;

use super::{Checker, is_identifier, plain};
use crate::manifest::{
    Arg, Comparison, Condition, Dim, Input, Output, Source as From, State, Symbol, SymbolId,
    ValueId,
};
use crate::raw::dims;
use crate::raw::json::Holds;

/// More layers than any model has; a cache is allocated per layer.
const MAX_LAYERS: usize = 65_536;

impl Checker<'_, '_, '_> {
    pub(super) fn symbols(&mut self) {
        for (i, element) in self.raw.symbols.iter().enumerate() {
            let symbol = &element.is;
            if !is_identifier(&symbol.name) {
                self.not_identifier(element.line, format!("symbols[{i}].name"), &symbol.name);
            }
            let ids = &mut self.names.symbols.ids;
            if ids.insert(&symbol.name, SymbolId(i)).is_some() {
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
            self.names.symbols.ranges.push(Symbol {
                name: (*symbol.name).to_owned(),
                min: symbol.min,
                max: symbol.max,
            });
        }
    }

    pub(super) fn conditions(&mut self) -> Vec<Condition> {
        let mut conditions = Vec::with_capacity(self.raw.conditions.len());
        for (i, element) in self.raw.conditions.iter().enumerate() {
            let (comparison, (left, right)) = match &element.is.holds {
                Holds::Eq(sides) => (Comparison::Eq, sides),
                Holds::Ne(sides) => (Comparison::Ne, sides),
                Holds::Lt(sides) => (Comparison::Lt, sides),
                Holds::Le(sides) => (Comparison::Le, sides),
            };
            let side = |dim| dims::expression(dim, &self.names.symbols);
            match side(left).and_then(|left| Ok((left, side(right)?))) {
                Ok((Dim::Size(_), Dim::Size(_))) => self.source.error(
                    element.line,
                    format!("conditions[{i}].holds"),
                    "the condition has no size in it",
                ),
                Ok((left, right)) => conditions.push(Condition {
                    comparison,
                    left,
                    right,
                    at: element.is.at.as_ref().map(|at| plain(at)),
                }),
                Err(message) => {
                    let field = format!("conditions[{i}].holds");
                    self.source.error(element.line, field, message);
                }
            }
        }
        conditions
    }

    pub(super) fn inputs(&mut self) -> Vec<Input> {
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

    pub(super) fn outputs(&mut self) -> Vec<Output> {
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
    pub(super) fn bound(&mut self) {
        let inputs = &self.values[..self.raw.inputs.len().min(self.values.len())];
        let bound: HashSet<_> = inputs
            .iter()
            .flat_map(|value| &value.shape)
            .cloned()
            .collect();
        for (i, symbol) in self.names.symbols.ranges.iter().enumerate() {
            if !bound.contains(&Dim::Sym(SymbolId(i))) {
                let message = format!("no input has `{}` as one of its sizes", symbol.name);
                self.source
                    .error(self.raw.symbols[i].line, format!("symbols[{i}]"), message);
            }
        }
    }

    pub(super) fn states(&mut self, inputs: &[Input], outputs: &[Output]) -> Vec<State> {
        let mut used = HashSet::new();
        let mut states = Vec::with_capacity(self.raw.states.len());
        for (i, element) in self.raw.states.iter().enumerate() {
            let state = &element.is;
            let field = |name: &str| format!("states[{i}].{name}");
            if !is_identifier(&state.name) {
                self.not_identifier(element.line, field("name"), &state.name);
            }
            self.checked_name(element.line, || field("slot"), &state.slot);
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
}
