//! Tensors that the model holds: parameters and constants.

use super::super::{data, dims, json};
use super::{Checker, dtype};
use crate::manifest::{ConstId, Constant, Param, ParamId};

impl Checker<'_, '_, '_> {
    pub(super) fn params(&mut self) -> Vec<Param> {
        let mut params: Vec<Param> = Vec::with_capacity(self.raw.parameters.len());
        self.names.params.reserve(self.raw.parameters.len());
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
            let name = param.name.clone();
            if self.names.params.insert(name, ParamId(i)).is_some() {
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

    pub(super) fn constants(&mut self) -> Vec<Constant> {
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
                Some(count) => data::data(&constant.data, dtype, count).map_err(|m| ("data", m)),
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
}
