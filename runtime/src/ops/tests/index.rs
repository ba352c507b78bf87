//! The numbers are PyTorch 2.15's.

use super::*;

#[test]
fn embeddings() -> Result<()> {
    check(&embedding(&seq(&[4, 3], DType::F32, 37), &v(&[3., 0., 3.], DType::I64).reshape((1,
        3))?)?, &[1, 3, 3], DType::F32, &[1.375, 0.25, -0.875, 0., -1.125, 0.625, 1.375, 0.25,
        -0.875], 0.);
    assert!(embedding(&seq(&[4, 3], DType::F32, 37), &v(&[4.], DType::I64)).is_err());
    assert!(embedding(&seq(&[4, 3], DType::F32, 37), &v(&[-1.], DType::I64)).is_err());
    assert!(embedding(&seq(&[4, 3], DType::F32, 37), &v(&[255.], DType::U8)).is_err());
    assert!(embedding(&seq(&[4, 3], DType::F32, 37), &full_int(i64::MAX, &[1],
        &Device::Cpu)?).is_err());
    Ok(())
}

#[test]
fn selecting() -> Result<()> {
    check(&index_select(&seq(&[2, 3, 4], DType::F32, 37), 1, &v(&[2., 0., 2.], DType::I64))?, &[2,
        3, 4], DType::F32, &[-0.375, 1.375, 0.25, -0.875, 0., -1.125, 0.625, -0.5, -0.375, 1.375,
        0.25, -0.875, 0.5, -0.625, 1.125, 0., 0.875, -0.25, -1.375, 0.375, 0.5, -0.625, 1.125, 0.],
        0.);
    assert!(index_select(&seq(&[2, 3, 4], DType::F32, 37), 1, &v(&[3.], DType::I64)).is_err());
    check(&gather(&seq(&[2, 3], DType::F32, 37), 1, &v(&[0., 2., 1., 0.], DType::I64).reshape((2,
        2))?)?, &[2, 2], DType::F32, &[0., 0.625, 1.25, -0.5], 0.);
    assert!(gather(&seq(&[2, 3], DType::F32, 37), 1, &v(&[-1., 0.], DType::I64).reshape((2,
        1))?).is_err());
    Ok(())
}

#[test]
fn scattering() -> Result<()> {
    check(&scatter(&seq(&[2, 3], DType::F32, 37), 1, &v(&[0., 2., 1., 0.], DType::I64).reshape((2,
        2))?, &seq(&[2, 2], DType::F32, 5))?, &[2, 3], DType::F32, &[0., -1.125, 0.625, -1., 1.25,
        0.125], 0.);
    check(&scatter_add(&seq(&[2, 3], DType::BF16, 37), 0, &v(&[1., 1., 0., 1.],
        DType::I64).reshape((2, 2))?, &seq(&[2, 2], DType::BF16, 5))?, &[2, 3], DType::BF16, &[1.25,
        -1.125, 0.625, -0.5, 0.875, 0.125], 0.);
    check(&scatter_value(&seq(&[2, 3], DType::F32, 37), 1, &v(&[0., 2.], DType::I64).reshape((2,
        1))?, 9.0)?, &[2, 3], DType::F32, &[9., -1.125, 0.625, -0.5, 1.25, 9.], 0.);
    assert!(scatter(&seq(&[2, 3], DType::F32, 37), 1, &v(&[3., 2.], DType::I64).reshape((2, 1))?,
        &seq(&[2, 1], DType::F32, 37)).is_err());
    Ok(())
}

#[test]
fn advanced() -> Result<()> {
    check(&index(&seq(&[2, 3, 4], DType::F32, 37), &[Some(&v(&[-1., 0.], DType::I64))])?, &[2, 3,
        4], DType::F32, &[0.875, -0.25, -1.375, 0.375, -0.75, 1., -0.125, -1.25, 0.5, -0.625, 1.125,
        0., 0., -1.125, 0.625, -0.5, 1.25, 0.125, -1., 0.75, -0.375, 1.375, 0.25, -0.875], 0.);
    check(&index(&seq(&[2, 3, 4], DType::F32, 37), &[None, Some(&v(&[1., 2., -3.],
        DType::I64).reshape((3, 1))?), Some(&v(&[-1., 0.], DType::I64))])?, &[2, 3, 2], DType::F32,
        &[0.75, 1.25, -0.875, -0.375, -0.5, 0., -1.25, -0.75, 0., 0.5, 0.375, 0.875], 0.);
    check(&index(&seq(&[2, 3, 4], DType::F32, 37), &[Some(&v(&[-1., 0.], DType::I64)), None,
        Some(&v(&[1., 2., -3.], DType::I64).reshape((3, 1))?)])?, &[3, 2, 3], DType::F32, &[-0.25,
        1., -0.625, -1.125, 0.125, 1.375, -1.375, -0.125, 1.125, 0.625, -1., 0.25, -0.25, 1.,
        -0.625, -1.125, 0.125, 1.375], 0.);
    check(&index(&seq(&[2, 3, 4], DType::F32, 37), &[None, Some(&v(&[1., 2., -3.],
        DType::I64).reshape((3, 1))?)])?, &[2, 3, 1, 4], DType::F32, &[1.25, 0.125, -1., 0.75,
        -0.375, 1.375, 0.25, -0.875, 0., -1.125, 0.625, -0.5, -0.75, 1., -0.125, -1.25, 0.5, -0.625,
        1.125, 0., 0.875, -0.25, -1.375, 0.375], 0.);
    assert!(index(&seq(&[2, 3, 4], DType::F32, 37), &[Some(&v(&[2.], DType::I64))]).is_err());
    assert!(index(&seq(&[2, 3, 4], DType::F32, 37), &[None, Some(&v(&[-4.],
        DType::I64))]).is_err());
    check(&index(&seq(&[2, 3, 4], DType::F32, 37), &[None, Some(&v(&[1., 0., 1.], DType::U8))])?,
        &[2, 2, 4], DType::F32, &[0., -1.125, 0.625, -0.5, -0.375, 1.375, 0.25, -0.875, 0.875,
        -0.25, -1.375, 0.375, 0.5, -0.625, 1.125, 0.], 0.);
    Ok(())
}

#[test]
fn putting() -> Result<()> {
    check(&index_put(&seq(&[2, 3, 4], DType::F32, 37), &[Some(&v(&[-1., 0.], DType::I64)), None,
        Some(&v(&[1., 2., -3.], DType::I64).reshape((3, 1))?)], &seq(&[3, 2, 3], DType::F32, 5),
        false)?, &[2, 3, 4], DType::F32, &[0., 0.75, -0.125, -0.5, 1.25, 1.375, 0.5, 0.75, -0.375,
        -0.875, 1.125, -0.875, 0.875, -1.125, 0.875, 0.375, -0.75, -0.5, -1.375, -1.25, 0.5, 0.125,
        -0.75, 0.], 0.);
    check(&index_put(&seq(&[2, 3, 4], DType::F32, 37), &[Some(&v(&[1., 1., 0.], DType::I64))],
        &v(&[0.5], DType::F32), true)?, &[2, 3, 4], DType::F32, &[0.5, -0.625, 1.125, 0., 1.75,
        0.625, -0.5, 1.25, 0.125, 1.875, 0.75, -0.375, 1.875, 0.75, -0.375, 1.375, 0.25, 2., 0.875,
        -0.25, 1.5, 0.375, 2.125, 1.], 0.);
    Ok(())
}

#[test]
fn sorting() -> Result<()> {
    check(&sort(&v(&[1., NAN, 3., 3., -2., INF], DType::F32), 0, true, true).map(|s| s.0)?, &[6],
        DType::F32, &[NAN, INF, 3., 3., 1., -2.], 0.);
    check(&sort(&v(&[1., NAN, 3., 3., -2., INF], DType::F32), 0, true, true).map(|s| s.1)?, &[6],
        DType::I64, &[1., 5., 2., 3., 0., 4.], 0.);
    check(&sort(&v(&[1., NAN, 3., 3., -2., INF], DType::F32), 0, false, true).map(|s| s.0)?, &[6],
        DType::F32, &[-2., 1., 3., 3., INF, NAN], 0.);
    check(&sort(&v(&[1., NAN, 3., 3., -2., INF], DType::F32), 0, false, true).map(|s| s.1)?, &[6],
        DType::I64, &[4., 0., 2., 3., 5., 1.], 0.);
    check(&sort(&seq(&[3, 2], DType::F32, 37), 0, false, true).map(|s| s.1)?, &[3, 2], DType::I64,
        &[0., 0., 1., 1., 2., 2.], 0.);
    check(&topk(&seq(&[2, 7], DType::F32, 37), 3, 1, true, true).map(|s| s.0)?, &[2, 3], DType::F32,
        &[1.25, 0.625, 0.125, 1.375, 0.875, 0.75], 0.);
    check(&topk(&seq(&[2, 7], DType::F32, 37), 3, 1, false, true).map(|s| s.1)?, &[2, 3],
        DType::I64, &[1., 6., 3., 4., 1., 6.], 0.);
    check(&topk(&seq(&[7, 2], DType::F32, 37), 2, 0, true, true).map(|s| s.1)?, &[2, 2], DType::I64,
        &[2., 4., 6., 3.], 0.);
    assert!(topk(&seq(&[2, 7], DType::F32, 37), 8, 1, true, true).is_err());
    Ok(())
}

#[test]
fn bytes_wrap_when_added() -> Result<()> {
    let (x, more) = (v(&[250., 1.], DType::U8), v(&[5., 5., 3.], DType::U8));
    let index = v(&[0., 0., 1.], DType::I64);
    check(&scatter_add(&x, 0, &index, &more)?, &[2], DType::U8, &[4., 4.], 0.);
    Ok(())
}

#[test]
fn numbers_beyond_memory_are_an_error() {
    assert!(arange_int(0, 1 << 58, 1, &Device::Cpu).is_err());
    assert!(arange(0., 1e18, 1., DType::F32, &Device::Cpu).is_err());
    assert!(linspace(0., 1., usize::MAX / 16, DType::F32, &Device::Cpu).is_err());
}
