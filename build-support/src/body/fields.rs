//! The fields of a body, and expressions in terms of them.

use super::builder::Builder;
use super::{CacheUse, Field, FieldKind, FieldPath, Held, relative};
use crate::ir::{Expr, FieldId, Layer, Lit};
use crate::manifest::{
    CallId, ConstId, Constant, Data, Dim, Dtype, ParamId, Source, SymbolId, ValueId,
};

impl Builder<'_> {
    pub(super) fn relative(&self, path: &str) -> FieldPath {
        relative(self.path, path)
    }

    pub(super) fn field(&mut self, field: Field) -> FieldId {
        let next = FieldId(self.fields.len());
        *self.field_ids.entry(field).or_insert_with_key(|field| {
            self.fields.push(field.clone());
            next
        })
    }

    pub(super) fn tensor(&mut self, source: Source) -> Expr {
        match source {
            Source::Value(_) => match self.kept.get(&source) {
                Some((list, at)) => Expr::Element(*list, *at),
                None => Expr::Var(self.var_of(source)),
            },
            Source::Param(p) => {
                let param = &self.graph.m.params[p.0];
                let path = self.relative(&param.name);
                let kind = FieldKind::Param(lits(&param.shape));
                let dtype = self.other_dtype(p);
                Expr::Field(self.field(Field { path, kind, dtype }))
            }
            Source::Const(c) => {
                // Equal contents are one constant, so that they do not tell equal modules apart.
                let constants = &self.graph.m.constants;
                // What a side file holds is known by name alone.
                let named = |x: &Constant| !matches!(x.data, Data::File(_));
                let same = |x: &Constant| {
                    (named(x) || x.name == constants[c.0].name)
                        && x.data == constants[c.0].data
                        && x.shape == constants[c.0].shape
                        && x.dtype == constants[c.0].dtype
                };
                let first = constants.iter().position(same).unwrap_or(c.0);
                let path = match self.relative(&constants[c.0].name) {
                    FieldPath::Own(path) if path.contains('.') || !self.path.is_empty() => path,
                    _ => "constant".to_owned(),
                };
                let path = FieldPath::Own(path);
                let kind = FieldKind::Const(ConstId(first));
                let dtype = None;
                Expr::Field(self.field(Field { path, kind, dtype }))
            }
        }
    }

    pub(super) fn dim(&mut self, dim: &Dim) -> Dim {
        dim.clone().rebuild(&mut |dim| match dim {
            Dim::Sym(s) => {
                let found = self.syms.iter().position(|x| *x == s);
                Dim::Sym(SymbolId(found.unwrap_or_else(|| {
                    self.syms.push(s);
                    self.syms.len() - 1
                })))
            }
            other => other,
        })
    }

    pub(super) fn localise(&mut self, expr: Expr, leaf: Option<(CallId, ValueId)>) -> Expr {
        expr.map(&mut |e| match e {
            Expr::Tensor(source) => self.tensor(source),
            Expr::Layer(layer, x) => {
                let field = self.layer(*layer, leaf);
                Expr::Forward(self.field(field), x)
            }
            Expr::Size(d) => Expr::Size(self.dim(&d)),
            Expr::SizeAsInt(d) => Expr::SizeAsInt(self.dim(&d)),
            Expr::SizeAsFloat(d) => Expr::SizeAsFloat(self.dim(&d)),
            Expr::Shape(dims) => Expr::Shape(dims.iter().map(|d| self.dim(d)).collect()),
            Expr::Dims(dims) => Expr::Dims(dims.iter().map(|d| self.dim(d)).collect()),
            Expr::Append {
                state, slot, new, ..
            } => {
                let state = &self.graph.m.states[state];
                let cache = self.cache(&state.name);
                let one = self.parts[cache] == CacheUse::Layer;
                Expr::Append {
                    state: cache,
                    layer: (!one).then(|| self.local_layer(cache, state.layer)),
                    slot,
                    new,
                }
            }
            other => other,
        })
    }

    /// The field for a layer: in its usual place when the parameters are all below one module,
    /// under their usual names, and the node is that module's only one.
    fn layer(&mut self, mut layer: Layer, leaf: Option<(CallId, ValueId)>) -> Field {
        let m = self.graph.m;
        let params: Vec<_> = std::mem::take(&mut layer.params);
        let usual = leaf.and_then(|(call, out)| {
            let path = self.graph.path(call);
            let fits = params
                .iter()
                .all(|(role, p)| p.is_none_or(|p| m.params[p.0].name == format!("{path}.{role}")));
            let outputs = &m.calls[call.0].outputs;
            let source = |v| self.graph.resolve(Source::Value(v));
            let one = matches!(outputs[..], [v] if source(v) == Source::Value(out));
            let mut dtypes = params
                .iter()
                .filter_map(|(_, p)| *p)
                .map(|p| self.other_dtype(p));
            let dtype = dtypes.next().flatten();
            let fits = fits && one && !path.is_empty() && dtypes.all(|d| d == dtype);
            fits.then_some((call, path, dtype))
        });
        let has_bias = params.iter().any(|(r, p)| *r == "bias" && p.is_some());
        if let Some((call, path, dtype)) = usual {
            self.recorded.push((call, 0));
            return Field {
                path: self.relative(path),
                kind: FieldKind::Layer {
                    layer,
                    bias: has_bias,
                },
                dtype,
            };
        }
        let held = |p: &Option<ParamId>| {
            p.map(|p| Held {
                path: self.relative(&m.params[p.0].name),
                shape: lits(&m.params[p.0].shape),
                dtype: self.other_dtype(p),
            })
        };
        let name = params
            .iter()
            .find_map(|(_, p)| *p)
            .map(|p| &m.params[p.0].name);
        let path = name.map_or("layer", |n| n);
        Field {
            path: self.relative(path),
            kind: FieldKind::LayerOf {
                params: params.iter().map(|(_, p)| held(p)).collect(),
                layer,
            },
            dtype: None,
        }
    }

    /// The dtype of a parameter that does not have the model's.
    fn other_dtype(&self, p: ParamId) -> Option<Dtype> {
        let dtype = self.graph.m.params[p.0].dtype;
        (dtype != self.graph.m.dtype).then_some(dtype)
    }
}

fn lits(shape: &[usize]) -> Vec<Lit> {
    shape.iter().map(|&n| Lit::Int(n as i64)).collect()
}
