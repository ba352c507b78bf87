//! Expressions and literals as tokens.

use std::collections::BTreeSet;

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use crate::ir::{Expr, Float, LayerArg, Lit, Var};
use crate::manifest::Dtype;
use crate::names::ident;

/// What the names in an expression stand for.
#[derive(Debug, Default)]
pub struct Scope {
    /// Name of each variable, and whether it is a reference.
    pub vars: Vec<(String, bool)>,
    /// Name of each field, and whether it is a parameter to be read first.
    pub fields: Vec<(String, bool)>,
    /// Name of each size.
    pub sizes: Vec<String>,
    /// Name of each cache argument.
    pub caches: Vec<String>,
    /// The cache arguments that are slices of layers.
    pub slices: BTreeSet<usize>,
    /// The variables that are lists of tensors.
    pub lists: BTreeSet<Var>,
    /// The variables that are changed later.
    pub mutable: BTreeSet<Var>,
    /// The variable whose device is the model's.
    pub device: Option<Var>,
}

impl Scope {
    /// An expression where a value is wanted, or a receiver.
    pub fn value(&self, expr: &Expr) -> TokenStream {
        match expr {
            Expr::Var(v) => self.var(*v),
            Expr::Element(v, at) => {
                let (list, at) = (self.var(*v), Literal::usize_unsuffixed(*at));
                quote!(#list[#at])
            }
            Expr::Field(f) => {
                let (name, param) = &self.fields[f.0];
                let name = ident(name);
                if *param {
                    quote!(self.#name.tensor()?)
                } else {
                    quote!(self.#name)
                }
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.operand(a), self.operand(b));
                match op {
                    '+' => quote!((#a + #b)?),
                    '-' => quote!((#a - #b)?),
                    '*' => quote!((#a * #b)?),
                    _ => quote!((#a / #b)?),
                }
            }
            Expr::Method(recv, name, args) => {
                let (recv, name) = (self.value(recv), ident(name));
                let args = args.iter().map(|a| self.argument(a));
                quote!(#recv.#name(#(#args),*)?)
            }
            other => match self.fallible(other) {
                Some(call) => quote!(#call?),
                None => self.argument(other),
            },
        }
    }

    /// A call whose result is one of the runtime, as that; `None` for any other expression.
    pub fn fallible(&self, expr: &Expr) -> Option<TokenStream> {
        Some(match expr {
            Expr::Forward(f, x) => {
                let (name, x) = (ident(&self.fields[f.0].0), self.reference(x));
                quote!(self.#name.forward(#x, p))
            }
            Expr::Op(name, args) => {
                let name = ident(name);
                let args = args.iter().map(|a| self.argument(a));
                quote!(ops::#name(#(#args),*))
            }
            Expr::Append {
                state,
                layer,
                slot,
                new,
            } => {
                let (cache, new) = (ident(&self.caches[*state]), self.reference(new));
                let layer = layer.map(Literal::usize_unsuffixed);
                match layer {
                    Some(layer) if self.slices.contains(state) => {
                        quote!(#cache[#layer].append(#slot, #new))
                    }
                    Some(layer) => quote!(#cache.layer(#layer).append(#slot, #new)),
                    None => quote!(#cache.append(#slot, #new)),
                }
            }
            _ => return None,
        })
    }

    /// A tensor passed by reference.
    pub fn reference(&self, expr: &Expr) -> TokenStream {
        let value = self.value(expr);
        match expr {
            Expr::Var(v) if self.vars[v.0].1 => value,
            _ => quote!(&#value),
        }
    }

    /// An operand of `+`: a new value as it is, anything that lives on by reference.
    fn operand(&self, expr: &Expr) -> TokenStream {
        match expr {
            expr if expr.is_place() => self.reference(expr),
            _ => self.value(expr),
        }
    }

    /// A variable where it is defined.
    pub fn define(&self, var: Var) -> TokenStream {
        let name = ident(&self.vars[var.0].0);
        if self.mutable.contains(&var) {
            quote!(mut #name)
        } else {
            quote!(#name)
        }
    }

    fn var(&self, var: Var) -> TokenStream {
        let name = ident(&self.vars[var.0].0);
        quote!(#name)
    }

    /// An argument of a function.
    pub fn argument(&self, expr: &Expr) -> TokenStream {
        match expr {
            e if e.is_tensor() => self.reference(e),
            Expr::Int(i) => int(*i),
            Expr::Float(f) => float(*f),
            Expr::Setting(f) => {
                let name = ident(&self.fields[f.0].0);
                quote!(self.#name)
            }
            Expr::Bool(b) => quote!(#b),
            Expr::Size(d) => self.size(d),
            Expr::SizeAsInt(d) => self.size_as(d, &quote!(i64)),
            Expr::SizeAsFloat(d) => self.size_as(d, &quote!(f64)),
            Expr::Shape(dims) => {
                let dims = dims.iter().map(|d| self.size(d));
                quote!(&[#(#dims),*])
            }
            Expr::Dims(dims) => {
                let sizes: Vec<_> = dims.iter().map(|d| self.size(d)).collect();
                match sizes.len() {
                    0 => quote!(()),
                    1 => quote!(#(#sizes)*),
                    2..=6 => quote!((#(#sizes),*)),
                    _ => quote!(&[#(#sizes),*][..]),
                }
            }
            Expr::Slice(items) => {
                let items = items.iter().map(|a| self.argument(a));
                quote!(&[#(#items),*])
            }
            Expr::Array(items) => {
                let items = items.iter().map(|a| self.argument(a));
                quote!([#(#items),*])
            }
            Expr::Tuple(items) => {
                let items = items.iter().map(|a| self.argument(a));
                quote!((#(#items),*))
            }
            Expr::Some(x) => {
                let x = self.argument(x);
                quote!(Some(#x))
            }
            Expr::Variant(of, name) => {
                let (of, name) = (ident(of), ident(name));
                quote!(ops::#of::#name)
            }
            Expr::Dtype(d) => dtype(*d),
            Expr::ModelDtype => quote!(self.dtype),
            Expr::Device => match self.device {
                Some(v) => {
                    let x = self.var(v);
                    quote!(#x.device())
                }
                None => quote!(&self.device),
            },
            _ => quote!(None),
        }
    }
}

/// An integer literal.
pub fn int(value: i64) -> TokenStream {
    let digits = Literal::u64_unsuffixed(value.unsigned_abs());
    if value < 0 {
        quote!(-#digits)
    } else {
        quote!(#digits)
    }
}

/// Numbers that have a name in the standard library, which clippy wants to see
/// (`clippy::approx_constant`).
const CONSTANTS: &[(f64, &str)] = {
    use std::f64::consts::*;
    &[
        (E, "E"),
        (FRAC_1_PI, "FRAC_1_PI"),
        (FRAC_1_SQRT_2, "FRAC_1_SQRT_2"),
        (FRAC_2_PI, "FRAC_2_PI"),
        (FRAC_2_SQRT_PI, "FRAC_2_SQRT_PI"),
        (FRAC_PI_2, "FRAC_PI_2"),
        (FRAC_PI_3, "FRAC_PI_3"),
        (FRAC_PI_4, "FRAC_PI_4"),
        (FRAC_PI_6, "FRAC_PI_6"),
        (FRAC_PI_8, "FRAC_PI_8"),
        (LN_10, "LN_10"),
        (LN_2, "LN_2"),
        (LOG10_2, "LOG10_2"),
        (LOG10_E, "LOG10_E"),
        (LOG2_10, "LOG2_10"),
        (LOG2_E, "LOG2_E"),
        (PI, "PI"),
        (SQRT_2, "SQRT_2"),
        (TAU, "TAU"),
    ]
};

/// A float literal, or the name of a constant.
pub fn float(value: Float) -> TokenStream {
    let value = value.get();
    if value.is_nan() {
        return quote!(f64::NAN);
    }
    let magnitude = if value.is_infinite() {
        quote!(f64::INFINITY)
    } else if let Some((_, name)) = CONSTANTS.iter().find(|(c, _)| *c == value.abs()) {
        literal(&format!("std::f64::consts::{name}"))
    } else {
        decimal(&format!("{:?}", value.abs()))
    };
    if value.is_sign_negative() {
        quote!(-#magnitude)
    } else {
        magnitude
    }
}

/// A float by its digits: those of a constant, cut or rounded, are what the model computes with, which
/// an exponent tells clippy.
pub fn decimal(digits: &str) -> TokenStream {
    let is_cut = |(c, _): &(f64, &str)| {
        c.to_string().starts_with(digits) || format!("{c:.*}", digits.len() - 2) == digits
    };
    match digits.len() > 3 && CONSTANTS.iter().any(is_cut) {
        true => literal(&format!("{digits}e0")),
        false => literal(digits),
    }
}

/// A literal as it is written; `1e-6` stays `1e-6`.
pub fn literal(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}

/// A dtype of the runtime.
pub fn dtype(dtype: Dtype) -> TokenStream {
    let name = ident(candle_name(dtype));
    quote!(DType::#name)
}

/// What the dtype that holds this one is called there.
pub fn candle_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Bool | Dtype::Uint8 => "U8",
        Dtype::Int8 | Dtype::Int16 | Dtype::Int32 | Dtype::Int64 => "I64",
        Dtype::Float16 => "F16",
        Dtype::Bfloat16 => "BF16",
        Dtype::Float32 => "F32",
        Dtype::Float64 => "F64",
    }
}

/// A literal of a constructor; `holes` names the arguments of `load`.
pub fn lit(lit: &Lit, holes: &[String]) -> TokenStream {
    match lit {
        Lit::Int(i) => int(*i),
        Lit::Float(f) => float(*f),
        Lit::Hole(i) => {
            let name = ident(&holes[*i]);
            quote!(#name)
        }
    }
}

/// An argument of a layer's constructor.
pub fn layer_arg(arg: &LayerArg, holes: &[String]) -> TokenStream {
    match arg {
        LayerArg::Lit(_, l) => lit(l, holes),
        LayerArg::Array(_, lits) => {
            let lits = lits.iter().map(|l| lit(l, holes));
            quote!([#(#lits),*])
        }
        LayerArg::Tuple(_, lits) => {
            let lits = lits.iter().map(|l| lit(l, holes));
            quote!((#(#lits),*))
        }
        LayerArg::Struct(name, fields) => {
            let name = ident(name);
            let set: Vec<_> = fields
                .iter()
                .filter(|(field, arg)| !is_default(field, arg))
                .collect();
            let rest = (set.len() < fields.len()).then(|| quote!(..Default::default()));
            let set = set.iter().map(|(field, arg)| {
                let (field, value) = (ident(field), layer_arg(arg, holes));
                quote!(#field: #value,)
            });
            if rest.is_some() && fields.iter().all(|(f, a)| is_default(f, a)) {
                return quote!(#name::default());
            }
            quote!(#name { #(#set)* #rest })
        }
    }
}

/// Whether a setting of a convolution is what it is when it is left out.
fn is_default(field: &str, arg: &LayerArg) -> bool {
    let default = Lit::Int(i64::from(field != "padding"));
    match arg {
        LayerArg::Lit(_, lit) => *lit == default,
        LayerArg::Array(_, lits) | LayerArg::Tuple(_, lits) => lits.iter().all(|l| *l == default),
        LayerArg::Struct(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{Float, float};

    #[test]
    fn digits_of_constants_are_what_the_model_has() {
        for (value, text) in [
            ("3.141592653589793", "std :: f64 :: consts :: PI"),
            ("3.1416", "3.1416e0"),
            ("-1.414", "- 1.414e0"),
            ("0.5", "0.5"),
            ("1e-6", "1e-6"),
            ("3.2", "3.2"),
        ] {
            let value = value.parse().unwrap_or(f64::NAN);
            assert_eq!(float(Float::new(value)).to_string(), text);
        }
    }
}
