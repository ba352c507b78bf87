//! The numbers are PyTorch 2.15's.

use super::*;

#[test]
fn comparisons() -> Result<()> {
    check(&eq(&v(&[1., NAN, -2., 0.5], DType::F32), &v(&[1., NAN, 3., -0.5], DType::F32))?, &[4],
        DType::U8, &[1., 0., 0., 0.], 0.);
    check(&eq_scalar(&v(&[1., NAN, -2., 0.5], DType::F32), 0.5)?, &[4], DType::U8, &[0., 0., 0.,
        1.], 0.);
    check(&eq_scalar_int(&v(&[1., 2., 3.], DType::I64), 2)?, &[3], DType::U8, &[0., 1., 0.], 0.);
    check(&ne(&v(&[1., NAN, -2., 0.5], DType::F32), &v(&[1., NAN, 3., -0.5], DType::F32))?, &[4],
        DType::U8, &[0., 1., 1., 1.], 0.);
    check(&ne_scalar(&v(&[1., NAN, -2., 0.5], DType::F32), 0.5)?, &[4], DType::U8, &[1., 1., 1.,
        0.], 0.);
    check(&ne_scalar_int(&v(&[1., 2., 3.], DType::I64), 2)?, &[3], DType::U8, &[1., 0., 1.], 0.);
    check(&lt(&v(&[1., NAN, -2., 0.5], DType::F32), &v(&[1., NAN, 3., -0.5], DType::F32))?, &[4],
        DType::U8, &[0., 0., 1., 0.], 0.);
    check(&lt_scalar(&v(&[1., NAN, -2., 0.5], DType::F32), 0.5)?, &[4], DType::U8, &[0., 0., 1.,
        0.], 0.);
    check(&lt_scalar_int(&v(&[1., 2., 3.], DType::I64), 2)?, &[3], DType::U8, &[1., 0., 0.], 0.);
    check(&le(&v(&[1., NAN, -2., 0.5], DType::F32), &v(&[1., NAN, 3., -0.5], DType::F32))?, &[4],
        DType::U8, &[1., 0., 1., 0.], 0.);
    check(&le_scalar(&v(&[1., NAN, -2., 0.5], DType::F32), 0.5)?, &[4], DType::U8, &[0., 0., 1.,
        1.], 0.);
    check(&le_scalar_int(&v(&[1., 2., 3.], DType::I64), 2)?, &[3], DType::U8, &[1., 1., 0.], 0.);
    check(&gt(&v(&[1., NAN, -2., 0.5], DType::F32), &v(&[1., NAN, 3., -0.5], DType::F32))?, &[4],
        DType::U8, &[0., 0., 0., 1.], 0.);
    check(&gt_scalar(&v(&[1., NAN, -2., 0.5], DType::F32), 0.5)?, &[4], DType::U8, &[1., 0., 0.,
        0.], 0.);
    check(&gt_scalar_int(&v(&[1., 2., 3.], DType::I64), 2)?, &[3], DType::U8, &[0., 0., 1.], 0.);
    check(&ge(&v(&[1., NAN, -2., 0.5], DType::F32), &v(&[1., NAN, 3., -0.5], DType::F32))?, &[4],
        DType::U8, &[1., 0., 0., 1.], 0.);
    check(&ge_scalar(&v(&[1., NAN, -2., 0.5], DType::F32), 0.5)?, &[4], DType::U8, &[1., 0., 0.,
        1.], 0.);
    check(&ge_scalar_int(&v(&[1., 2., 3.], DType::I64), 2)?, &[3], DType::U8, &[0., 1., 1.], 0.);
    check(&eq_scalar(&v(&[0.10009765625], DType::BF16), 0.1)?, &[1], DType::U8, &[1.], 0.);
    Ok(())
}

#[test]
fn logic() -> Result<()> {
    check(&bool_and(&v(&[1., 1., 0., 0.], DType::U8), &v(&[1., 0., 1., 0.], DType::U8))?, &[4],
        DType::U8, &[1., 0., 0., 0.], 0.);
    check(&bool_or(&v(&[1., 1., 0., 0.], DType::U8), &v(&[1., 0., 1., 0.], DType::U8))?, &[4],
        DType::U8, &[1., 1., 1., 0.], 0.);
    check(&bool_xor(&v(&[1., 1., 0., 0.], DType::U8), &v(&[1., 0., 1., 0.], DType::U8))?, &[4],
        DType::U8, &[0., 1., 1., 0.], 0.);
    check(&bool_not(&v(&[1., 0.], DType::U8))?, &[2], DType::U8, &[0., 1.], 0.);
    check(&int_not(&v(&[1., 0., -5.], DType::I64))?, &[3], DType::I64, &[-2., -1., 4.], 0.);
    check(&int_and(&v(&[12., -1.], DType::I64), &v(&[10., 7.], DType::I64))?, &[2], DType::I64,
        &[8., 7.], 0.);
    check(&logical_and(&v(&[0.5, 0., NAN], DType::F32), &v(&[2., 1., 1.], DType::I64))?, &[3],
        DType::U8, &[1., 0., 1.], 0.);
    check(&isnan(&v(&[NAN, INF, 1.], DType::F32))?, &[3], DType::U8, &[1., 0., 0.], 0.);
    check(&isinf(&v(&[NAN, -INF, 1.], DType::BF16))?, &[3], DType::U8, &[0., 1., 0.], 0.);
    Ok(())
}

#[test]
fn selection() -> Result<()> {
    check(&where_(&v(&[1., 0.], DType::U8), &seq(&[2, 2], DType::F32, 37), &seq(&[2, 1], DType::F32,
        5))?, &[2, 2], DType::F32, &[0., 0., 0.625, 0.625], 0.);
    check(&masked_fill(&seq(&[2, 2], DType::BF16, 37), &v(&[1., 0.], DType::U8),
        f64::NEG_INFINITY)?, &[2, 2], DType::BF16, &[-INF, -1.125, -INF, -0.5], 0.);
    check(&masked_fill(&seq(&[2], DType::F16, 37), &v(&[1., 0.], DType::U8),
        -3.4028234663852886e38)?, &[2], DType::F16, &[-INF, -1.125], 0.);
    Ok(())
}

#[test]
fn casts() -> Result<()> {
    check(&to_dtype(&v(&[NAN, INF, -1.7, 1e+20, 256.5, -1., 0.5, 2.9], DType::F32), DType::I64)?,
        &[8], DType::I64, &[-9223372036854775808., -9223372036854775808., -1.,
        -9223372036854775808., 256., -1., 0., 2.], 0.);
    check(&to_dtype(&v(&[NAN, INF, -1.7, 1e+20, 256.5, -1., 0.5, 2.9], DType::F32), DType::U8)?,
        &[8], DType::U8, &[0., 0., 255., 0., 0., 255., 0., 2.], 0.);
    check(&to_bool(&v(&[NAN, INF, -1.7, 1e+20, 256.5, -1., 0.5, 2.9], DType::F32))?, &[8],
        DType::U8, &[1., 1., 1., 1., 1., 1., 1., 1.], 0.);
    check(&to_dtype(&v(&[300., -1.], DType::I64), DType::U8)?, &[2], DType::U8, &[44., 255.], 0.);
    check(&to_dtype(&v(&[1.00390625, 1.01171875, 3.4e+38, -1e-40, 65520., 0.1, NAN], DType::F32),
        DType::BF16)?, &[7], DType::BF16, &[1., 1.016, INF, -9.184e-41, 65536., 0.1001, NAN], 0.);
    check(&to_dtype(&v(&[1.00390625, 1.01171875, 3.4e+38, -1e-40, 65520., 0.1, NAN], DType::F32),
        DType::F16)?, &[7], DType::F16, &[1.0039, 1.0117, INF, -0., INF, 0.099976, NAN], 0.);
    Ok(())
}
