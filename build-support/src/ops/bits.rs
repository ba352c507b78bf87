//! The bits of integers and booleans.

use super::compare::wrapped;
use super::create::of_number;
use super::{Row, Rule, float, int, op, why};
use crate::ir::Expr;
use crate::lower::{Ctx, Why};
use crate::manifest::{Dtype, Scalar};

pub const ROWS: &[Row] = &[
    ("aten.__and__.Scalar", Rule::Fn(and)),
    ("aten.__and__.Tensor", Rule::Fn(and)),
    ("aten.__or__.Scalar", Rule::Fn(or)),
    ("aten.__or__.Tensor", Rule::Fn(or)),
    ("aten.__rshift__.Scalar", Rule::Fn(shift_right)),
    ("aten.__rshift__.Tensor", Rule::Fn(shift_right)),
    ("aten.__xor__.Scalar", Rule::Fn(xor)),
    ("aten.__xor__.Tensor", Rule::Fn(xor)),
    ("aten.bitwise_and.Scalar", Rule::Fn(and)),
    ("aten.bitwise_and.Scalar_Tensor", Rule::Fn(and)),
    ("aten.bitwise_and.Tensor", Rule::Fn(and)),
    ("aten.bitwise_not.default", Rule::Fn(not)),
    ("aten.bitwise_or.Scalar", Rule::Fn(or)),
    ("aten.bitwise_or.Scalar_Tensor", Rule::Fn(or)),
    ("aten.bitwise_or.Tensor", Rule::Fn(or)),
    (
        "aten.bitwise_right_shift.Scalar_Tensor",
        Rule::Fn(shift_right),
    ),
    ("aten.bitwise_right_shift.Tensor", Rule::Fn(shift_right)),
    (
        "aten.bitwise_right_shift.Tensor_Scalar",
        Rule::Fn(shift_right),
    ),
    ("aten.bitwise_xor.Scalar", Rule::Fn(xor)),
    ("aten.bitwise_xor.Scalar_Tensor", Rule::Fn(xor)),
    ("aten.bitwise_xor.Tensor", Rule::Fn(xor)),
];

/// Shifts to the left, whose results wrap around like those of arithmetic.
pub const LEFT_SHIFTS: &[Row] = &[
    ("aten.__lshift__.Scalar", Rule::Fn(shift_left)),
    ("aten.__lshift__.Tensor", Rule::Fn(shift_left)),
    (
        "aten.bitwise_left_shift.Scalar_Tensor",
        Rule::Fn(shift_left),
    ),
    ("aten.bitwise_left_shift.Tensor", Rule::Fn(shift_left)),
    (
        "aten.bitwise_left_shift.Tensor_Scalar",
        Rule::Fn(shift_left),
    ),
];

/// An operand in the output's dtype; a number as a tensor of it, cut to the bits of the dtype.
fn operand(c: &Ctx, name: &str) -> Result<Expr, Why> {
    let dtype = c.out_dtype();
    if dtype.is_float() {
        return why("the bits of floats");
    }
    if c.is_tensor(name) {
        return Ok(c.tensor(name)?.cast(c, dtype));
    }
    let value = match c.scalar(name)? {
        _ if dtype == Dtype::Bool => return of_number(c, name, dtype, &[]),
        Scalar::Float(_) => return why(format!("argument `{name}` is a float")),
        Scalar::Int(i) => wrapped(i, dtype),
        Scalar::Bool(b) => i64::from(b),
    };
    let shape = Expr::Shape(Vec::new());
    if dtype == Dtype::Uint8 {
        let dtype = c.dtype_expr(dtype);
        return op("full", [float(value as f64), shape, dtype, Expr::Device]);
    }
    op("full_int", [int(value), shape, Expr::Device])
}

fn bitwise(c: &Ctx, of_bools: &'static str, of_ints: &'static str) -> Result<Expr, Why> {
    let name = match c.out_dtype() {
        Dtype::Bool => of_bools,
        _ => of_ints,
    };
    op(name, [operand(c, "self")?, operand(c, "other")?])
}

fn and(c: &Ctx) -> Result<Expr, Why> {
    bitwise(c, "bool_and", "int_and")
}

fn or(c: &Ctx) -> Result<Expr, Why> {
    bitwise(c, "bool_or", "int_or")
}

fn xor(c: &Ctx) -> Result<Expr, Why> {
    bitwise(c, "bool_xor", "int_xor")
}

fn not(c: &Ctx) -> Result<Expr, Why> {
    let name = match c.out_dtype() {
        Dtype::Bool => "bool_not",
        _ => "int_not",
    };
    op(name, [operand(c, "self")?])
}

fn shift(c: &Ctx, name: &'static str) -> Result<Expr, Why> {
    if c.out_dtype() == Dtype::Bool {
        return why("shifts booleans");
    }
    op(name, [operand(c, "self")?, operand(c, "other")?])
}

fn shift_left(c: &Ctx) -> Result<Expr, Why> {
    shift(c, "shift_left")
}

fn shift_right(c: &Ctx) -> Result<Expr, Why> {
    shift(c, "shift_right")
}
