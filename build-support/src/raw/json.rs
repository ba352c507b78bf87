//! The serde mirror of the manifest: what the JSON says, unchecked. Strings are borrowed.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

pub(crate) use super::text::Str;

/// The longest inline constant; longer ones lie in a side file.
pub(super) const MAX_LIST: usize = 4096;

#[derive(Deserialize)]
pub(super) struct Top<'a> {
    #[serde(borrow)]
    pub version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub recorder: Option<&'a RawValue>,
    #[serde(borrow)]
    pub model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub dtype: Option<&'a RawValue>,
    #[serde(borrow)]
    pub symbols: Option<&'a RawValue>,
    #[serde(borrow)]
    pub conditions: Option<&'a RawValue>,
    #[serde(borrow)]
    pub inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    pub fixed_inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    pub outputs: Option<&'a RawValue>,
    #[serde(borrow)]
    pub states: Option<&'a RawValue>,
    #[serde(borrow)]
    pub parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    pub constants: Option<&'a RawValue>,
    #[serde(borrow)]
    pub modules: Option<&'a RawValue>,
    #[serde(borrow)]
    pub calls: Option<&'a RawValue>,
    #[serde(borrow)]
    pub nodes: Option<&'a RawValue>,
    #[serde(borrow)]
    pub config: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Model<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    #[serde(borrow)]
    pub class: Str<'a>,
    #[serde(borrow)]
    pub output_class: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Symbol<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    pub min: usize,
    pub max: Option<usize>,
}

#[derive(Deserialize)]
pub(super) struct Condition<'a> {
    #[serde(borrow)]
    pub holds: Holds<'a>,
    #[serde(borrow)]
    pub at: Option<Str<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Holds<'a> {
    #[serde(borrow)]
    Eq((Dim<'a>, Dim<'a>)),
    #[serde(borrow)]
    Ne((Dim<'a>, Dim<'a>)),
    #[serde(borrow)]
    Lt((Dim<'a>, Dim<'a>)),
    #[serde(borrow)]
    Le((Dim<'a>, Dim<'a>)),
}

#[derive(Deserialize)]
pub(super) struct Input<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    #[serde(borrow)]
    pub path: Str<'a>,
    pub dtype: Dtype,
    #[serde(borrow)]
    pub shape: Vec<Dim<'a>>,
}

#[derive(Deserialize)]
pub(super) struct FixedInput<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    pub value: serde_json::Value,
}

#[derive(Deserialize)]
pub(super) struct Output<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    #[serde(borrow)]
    pub path: Str<'a>,
    #[serde(borrow)]
    pub value: Arg<'a>,
}

#[derive(Deserialize)]
pub(super) struct State<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    pub layer: usize,
    #[serde(borrow)]
    pub slot: Str<'a>,
    #[serde(borrow)]
    pub input: Str<'a>,
    #[serde(borrow)]
    pub output: Str<'a>,
    pub dim: usize,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum ParamKind {
    Parameter,
    Buffer,
}

#[derive(Deserialize)]
pub(super) struct Param<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    pub kind: ParamKind,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    #[serde(borrow)]
    pub tied_to: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Constant<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    #[serde(borrow)]
    pub data: Data<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Data<'a> {
    Full(Scalar),
    Arange {
        start: Scalar,
        step: Scalar,
    },
    List(ShortList),
    #[serde(borrow)]
    File(Str<'a>),
}

/// At most [`MAX_LIST`] scalars: reading stops at the first one too many.
pub(super) struct ShortList(pub Vec<Scalar>);

impl<'de> Deserialize<'de> for ShortList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = ShortList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers or booleans")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ShortList, A::Error> {
                let mut list = Vec::new();
                while let Some(scalar) = seq.next_element()? {
                    if list.len() == MAX_LIST {
                        return Err(de::Error::custom(format!(
                            "an inline constant holds at most {MAX_LIST} elements, longer ones lie in a side file"
                        )));
                    }
                    list.push(scalar);
                }
                Ok(ShortList(list))
            }
        }
        deserializer.deserialize_seq(V)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Arg::deserialize(deserializer)? {
            Arg::Bool(value) => Ok(Self::Bool(value)),
            Arg::Int(value) => Ok(Self::Int(value)),
            Arg::Float(value) => Ok(Self::Float(value)),
            _ => Err(de::Error::custom("expected a number or a boolean")),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Module<'a> {
    #[serde(borrow)]
    pub path: Str<'a>,
    #[serde(borrow)]
    pub class: Str<'a>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow)]
    pub module: Str<'a>,
    pub index: usize,
    pub parent: Option<usize>,
    #[serde(borrow)]
    pub outputs: Vec<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Node<'a> {
    #[serde(borrow)]
    pub op: Str<'a>,
    #[serde(borrow)]
    pub args: Entries<'a, Arg<'a>>,
    #[serde(borrow)]
    pub out: Vec<Out<'a>>,
    pub call: usize,
    #[serde(borrow)]
    pub at: Option<Str<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Out<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    pub dtype: Dtype,
    #[serde(borrow)]
    pub shape: Vec<Dim<'a>>,
}

/// An object whose order is kept.
pub(crate) struct Entries<'a, T>(pub Vec<(Str<'a>, T)>);

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Entries<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for V<T> {
            type Value = Vec<(Str<'de>, T)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer
            .deserialize_map(V(std::marker::PhantomData))
            .map(Entries)
    }
}

/// The Rust side has the names; this only maps the JSON ones.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Dtype {
    Bool,
    Uint8,
    Int8,
    Int16,
    Int32,
    Int64,
    Float16,
    Bfloat16,
    Float32,
    Float64,
}

pub(super) enum Dim<'a> {
    Size(i64),
    Sym(Str<'a>),
    Op(DimOp, Vec<Dim<'a>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum DimOp {
    Add,
    Mul,
    Max,
    Min,
    Sub,
    FloorDiv,
    Mod,
}

impl<'de: 'a, 'a> Deserialize<'de> for Dim<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Dim<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a size: an integer, a symbol or an expression such as {\"add\": [\"seq\", 1]}",
                )
            }
            fn visit_i64<E>(self, size: i64) -> Result<Self::Value, E> {
                Ok(Dim::Size(size))
            }
            fn visit_u64<E: de::Error>(self, size: u64) -> Result<Self::Value, E> {
                i64::try_from(size)
                    .map(Dim::Size)
                    .map_err(|_| E::custom("the size does not fit in 64 bits"))
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Dim::Sym(Str(Cow::Borrowed(name))))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Dim::Sym(Str(Cow::Owned(name.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let Some((op, operands)) = map.next_entry::<DimOp, Vec<Dim<'de>>>()? else {
                    return Err(de::Error::custom("an empty object is not a size"));
                };
                one_key(&mut map)?;
                Ok(Dim::Op(op, operands))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// Refuses a second key in an object that stands for one thing.
fn one_key<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    match map.next_key::<Str<'de>>()? {
        None => Ok(()),
        Some(key) => Err(de::Error::custom(format!(
            "unexpected second key `{}`",
            &*key
        ))),
    }
}

pub(super) enum Arg<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Str<'a>),
    List(Vec<Arg<'a>>),
    Value(Str<'a>),
    Param(Str<'a>),
    Const(Str<'a>),
    Sym(Dim<'a>),
    Dtype(Dtype),
    Device,
    Enum(Str<'a>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ArgKey {
    V,
    Param,
    Const,
    Sym,
    Dtype,
    Device,
    Enum,
    Float,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DeviceName {
    Model,
}

#[derive(Deserialize)]
enum NonFinite {
    #[serde(rename = "inf")]
    Inf,
    #[serde(rename = "-inf")]
    NegInf,
    #[serde(rename = "nan")]
    Nan,
}

impl<'de: 'a, 'a> Deserialize<'de> for Arg<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ArgVisitor)
    }
}

struct ArgVisitor;

impl<'de> Visitor<'de> for ArgVisitor {
    type Value = Arg<'de>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a literal, a list or a reference such as {\"v\": \"x\"}")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Arg::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Arg::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Arg::Int(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        i64::try_from(value)
            .map(Arg::Int)
            .map_err(|_| E::custom("the integer does not fit in 64 bits"))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Arg::Float(value))
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Arg::Str(Str(Cow::Borrowed(value))))
    }
    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Arg::Str(Str(Cow::Owned(value.to_owned()))))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Arg::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some(key) = map.next_key::<ArgKey>()? else {
            return Err(de::Error::custom("an empty object is not an argument"));
        };
        let arg = match key {
            ArgKey::V => Arg::Value(map.next_value()?),
            ArgKey::Param => Arg::Param(map.next_value()?),
            ArgKey::Const => Arg::Const(map.next_value()?),
            ArgKey::Sym => Arg::Sym(map.next_value()?),
            ArgKey::Dtype => Arg::Dtype(map.next_value()?),
            ArgKey::Device => match map.next_value()? {
                DeviceName::Model => Arg::Device,
            },
            ArgKey::Enum => Arg::Enum(map.next_value()?),
            ArgKey::Float => Arg::Float(match map.next_value()? {
                NonFinite::Inf => f64::INFINITY,
                NonFinite::NegInf => f64::NEG_INFINITY,
                NonFinite::Nan => f64::NAN,
            }),
        };
        one_key(&mut map)?;
        Ok(arg)
    }
}
