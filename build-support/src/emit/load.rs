//! Fields and `load` functions.

use proc_macro2::{Literal, TokenStream};
use quote::quote;

use super::Struct;
use super::expr::{decimal, dtype, float, int, layer_arg, lit};
use super::forward::pattern;
use crate::body::{DefId, Field, FieldKind, FieldPath, Held};
use crate::graph::Graph;
use crate::ir::{Float, Layer, LayerArg, Lit};
use crate::manifest::{Constant, Data, Dtype, Scalar};
use crate::names::ident;

/// The struct's fields.
pub fn fields(s: &Struct, all: &[Struct]) -> TokenStream {
    let fields = s.body().fields.iter().zip(&s.fields).map(|(field, name)| {
        let name = ident(name);
        let ty = match &field.kind {
            FieldKind::Layer { layer, .. } | FieldKind::LayerOf { layer, .. } => {
                let ty = ident(layer.ty);
                quote!(#ty)
            }
            FieldKind::Param(_) => quote!(Param),
            FieldKind::Number(Lit::Hole(k)) => number_type(&s.def.holes[*k].1),
            FieldKind::Number(lit) => number_type(lit),
            FieldKind::Const(_) => quote!(Tensor),
            FieldKind::Child(def, _) => child_type(all, *def),
            FieldKind::Children(def, ..) => {
                let ty = child_type(all, *def);
                quote!(Vec<#ty>)
            }
        };
        quote!(#name: #ty,)
    });
    let path = s.needs_path().then(|| quote!(path: Path,));
    let dtype = s.needs_dtype().then(|| quote!(dtype: DType,));
    let device = s.needs_device().then(|| quote!(device: Device,));
    quote!(#(#fields)* #dtype #device #path)
}

/// Type of a literal.
fn number_type(lit: &Lit) -> TokenStream {
    match lit {
        Lit::Float(_) => quote!(f64),
        _ => quote!(usize),
    }
}

fn child_type(all: &[Struct], def: DefId) -> TokenStream {
    let name = ident(&all[def.0].name);
    quote!(#name)
}

/// The private `load` of a struct.
pub fn load(graph: &Graph, s: &Struct, all: &[Struct]) -> TokenStream {
    let holes = s.holes.iter().zip(&s.def.holes).map(|(name, (_, value))| {
        let name = ident(name);
        let ty = number_type(value);
        quote!(#name: #ty)
    });
    let values = values(graph, s, all);
    let w = if values.is_empty() {
        ident("_w")
    } else {
        ident("w")
    };
    quote! {
        fn load(#w: &Scope #(, #holes)*) -> Result<Self> {
            Ok(Self { #values })
        }
    }
}

/// `name: value,` for every field, given a scope `w`.
pub fn values(graph: &Graph, s: &Struct, all: &[Struct]) -> TokenStream {
    let fields = s.body().fields.iter().zip(&s.fields).map(|(field, name)| {
        let name = ident(name);
        let value = value(graph, s, all, field);
        if name == value.to_string() {
            return quote!(#name,);
        }
        quote!(#name: #value,)
    });
    let path = s.needs_path().then(|| quote!(path: w.path(),));
    let dtype = s.needs_dtype().then(|| quote!(dtype: w.dtype(),));
    let device = s
        .needs_device()
        .then(|| quote!(device: w.device().clone(),));
    quote!(#(#fields)* #dtype #device #path)
}

fn value(graph: &Graph, s: &Struct, all: &[Struct], field: &Field) -> TokenStream {
    match &field.kind {
        FieldKind::Layer { layer, bias } => {
            let ty = ident(layer.ty);
            let constructor = ident(constructor(layer, *bias));
            let scope = with_dtype(sub_scope(&field.path), field.dtype);
            let args = layer.args.iter().map(|a| layer_arg(a, &s.holes));
            quote!(#ty::#constructor(&#scope #(, #args)*)?)
        }
        FieldKind::LayerOf { layer, params } => layer_of(s, layer, params),
        FieldKind::Param(shape) => param(&field.path, shape, field.dtype, &s.holes),
        FieldKind::Number(l) => lit(l, &s.holes),
        FieldKind::Const(c) => constant(graph, s, &graph.m.constants[c.0]),
        FieldKind::Child(def, load) => {
            let (ty, scope) = (child_type(all, *def), sub_scope(&field.path));
            let args = load.iter().map(|l| lit(l, &s.holes));
            quote!(#ty::load(&#scope #(, #args)*)?)
        }
        FieldKind::Children(def, first, loads) => {
            let child = &all[def.0];
            children(child, &field.path, *first, loads, &s.holes)
        }
    }
}

fn children(
    child: &Struct,
    path: &FieldPath,
    first: usize,
    loads: &[Vec<Lit>],
    holes: &[String],
) -> TokenStream {
    let (ty, scope) = (ident(&child.name), sub_scope(path));
    let (from, to) = (
        Literal::usize_unsuffixed(first),
        Literal::usize_unsuffixed(first + loads.len()),
    );
    let same = loads.iter().all(|l| *l == loads[0]);
    if same {
        let args = loads[0].iter().map(|l| lit(l, holes));
        return quote! {
            (#from..#to).map(|i| #ty::load(&#scope.pp(i) #(, #args)*)).collect::<Result<_>>()?
        };
    }
    let rows = loads
        .iter()
        .map(|row| pattern(row.iter().map(|l| lit(l, holes))));
    let names: Vec<_> = child.holes.iter().map(|n| ident(n)).collect();
    let row = pattern(names.iter().map(|n| quote!(#n)));
    quote! {
        (#from..)
            .zip([#(#rows),*])
            .map(|(i, #row)| #ty::load(&#scope.pp(i) #(, #names)*))
            .collect::<Result<_>>()?
    }
}

fn constructor(layer: &Layer, bias: bool) -> &'static str {
    match (layer.variant, layer.ty) {
        ("", "Embedding" | "RmsNorm" | "BatchNorm" | "GroupNorm") => "load",
        ("", _) if bias => "load",
        ("", _) => "no_bias",
        (variant, _) => variant,
    }
}

/// `w.pp("self_attn")`
fn sub_scope(path: &FieldPath) -> TokenStream {
    match path {
        FieldPath::Own(path) if path.is_empty() => quote!(w),
        FieldPath::Own(path) => quote!(w.pp(#path)),
        FieldPath::Root(path) => quote!(w.root().pp(#path)),
    }
}

/// A scope for parameters that do not have the model's dtype.
fn with_dtype(scope: TokenStream, other: Option<Dtype>) -> TokenStream {
    match other {
        Some(d) => {
            let d = dtype(d);
            quote!(#scope.with_dtype(#d))
        }
        None => scope,
    }
}

fn param(path: &FieldPath, shape: &[Lit], other: Option<Dtype>, holes: &[String]) -> TokenStream {
    let sizes: Vec<_> = shape.iter().map(|l| lit(l, holes)).collect();
    let shape = match sizes.len() {
        0 => quote!(()),
        1 => quote!(#(#sizes)*),
        _ => quote!((#(#sizes),*)),
    };
    match path {
        FieldPath::Own(path) => {
            let w = with_dtype(quote!(w), other);
            quote!(#w.param(#path, #shape)?)
        }
        FieldPath::Root(path) => {
            let w = with_dtype(quote!(w.root()), other);
            quote!(#w.param(#path, #shape)?)
        }
    }
}

/// A layer made of parameters one by one.
fn layer_of(s: &Struct, layer: &Layer, params: &[Option<Held>]) -> TokenStream {
    let ty = ident(layer.ty);
    let constructor = match layer.variant {
        "" => ident("new"),
        variant => ident(&format!("new_{variant}")),
    };
    // What a layer may lack.
    let optional = |i: usize| match layer.ty {
        "GroupNorm" | "LayerNorm" => true,
        "Linear" | "Conv1d" | "Conv2d" => i > 0,
        "BatchNorm" => i < 2,
        _ => false,
    };
    let params = params.iter().enumerate().map(|(i, held)| match held {
        Some(held) => {
            let param = param(&held.path, &held.shape, held.dtype, &s.holes);
            if optional(i) {
                quote!(Some(#param))
            } else {
                param
            }
        }
        None => quote!(None),
    });
    let args = layer.args.iter().filter(|arg| match (layer.ty, arg) {
        ("Linear" | "Embedding", _) => false,
        ("RmsNorm" | "BatchNorm", LayerArg::Lit(name, _)) => *name == "eps",
        ("Conv1d" | "Conv2d", arg) => matches!(arg, LayerArg::Struct(..)),
        _ => true,
    });
    let args = args.map(|a| layer_arg(a, &s.holes));
    let all = params.chain(args);
    quote!(#ty::#constructor(#(#all),*))
}

/// A constant, made when the model is loaded.
fn constant(graph: &Graph, s: &Struct, c: &Constant) -> TokenStream {
    let shape = c.shape.iter().map(|&n| Literal::usize_unsuffixed(n));
    let shape = quote!(&[#(#shape),*]);
    let ty = if c.dtype == graph.m.dtype {
        quote!(w.dtype())
    } else {
        dtype(c.dtype)
    };
    let number = |s: &Scalar| float(Float::new(s.as_f64()));
    match &c.data {
        Data::Full(value) => {
            let value = number(value);
            quote!(bind::full(w, #value, #shape, #ty)?)
        }
        Data::Arange { start, step } => {
            let (start, step) = (number(start), number(step));
            quote!(bind::arange(w, #start, #step, #shape, #ty)?)
        }
        Data::List(values) if c.dtype.is_float() => {
            // In f32 as the trace has it, so that a wider model dtype starts from the same numbers.
            let function = match c.dtype {
                Dtype::Float32 => ident("constant_f32"),
                _ => ident("constant"),
            };
            let values = values.iter().map(|v| short(v.as_f64(), c.dtype));
            quote!(bind::#function(w, &[#(#values),*], #shape, #ty)?)
        }
        Data::List(values) => {
            let values = values.iter().map(|v| match v {
                Scalar::Bool(b) => int(i64::from(*b)),
                Scalar::Int(i) => int(*i),
                Scalar::Float(f) => int(*f as i64),
            });
            quote!(bind::constant_int(w, &[#(#values),*], #shape, #ty)?)
        }
        Data::File(_) => {
            let (file, name) = (s.side_file(c), &c.name);
            quote! {
                bind::stored(
                    w,
                    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", #file)),
                    #name,
                    #shape,
                    #ty,
                )?
            }
        }
    }
}

/// The shortest decimal that is the same number in the constant's own type.
fn short(value: f64, dtype: Dtype) -> TokenStream {
    if dtype != Dtype::Float32 {
        return float(Float::new(value));
    }
    if !value.is_finite() {
        let value = float(Float::new(value));
        return quote!((#value) as f32);
    }
    let literal = decimal(&format!("{:?}", (value as f32).abs()));
    if value.is_sign_negative() {
        quote!(-#literal)
    } else {
        quote!(#literal)
    }
}

impl Scalar {
    /// The element as a number.
    pub fn as_f64(self) -> f64 {
        match self {
            Scalar::Bool(b) => f64::from(u8::from(b)),
            Scalar::Int(i) => i as f64,
            Scalar::Float(f) => f,
        }
    }
}
