//! Batches and sequences of size 0 give empty tensors.

use super::*;

const FLOATS: [DType; 4] = [DType::F32, DType::BF16, DType::F16, DType::F64];

#[test]
fn element_by_element() -> Result<()> {
    for dtype in FLOATS {
        for shape in [[0, 3, 4], [2, 0, 4]] {
            let x = seq(&shape, dtype, 5);
            let row = seq(&[4], dtype, 3);
            let kept = x.zeros_like()?.to_dtype(DType::U8)?;
            let results = [
                add(&x, &row)?,
                swiglu(&x, &row)?,
                fmod(&x, &row)?,
                exp(&x)?,
                add_scalar(&x, 1.)?,
                addcmul(&x, &x, &row, 2.)?,
                where_(&kept, &x, &row)?,
                masked_fill(&x, &kept, 1.)?,
                softmax(&x, 2)?,
                softmax(&x, 1)?,
                log_softmax(&x, 0)?,
                cumsum(&x, 1)?,
                layer_norm(&x, 1, Some(&row), Some(&row), 1e-5)?,
                rms_norm(&x, Some(&row), 1e-5)?,
                flip(&x, &[1])?,
                roll(&x, &[1, 1], &[0, 1])?,
                sort(&x, 2, false, true)?.0,
                rope(&x, &row, &row)?,
                cat(&[&x, &x], 0)?.narrow(0, 0, shape[0])?,
            ];
            for (i, result) in results.iter().enumerate() {
                assert_eq!(
                    (result.dims(), result.dtype()),
                    (&shape[..], dtype),
                    "function {i}"
                );
            }
            assert_eq!(glu(&x, 2)?.dims(), [shape[0], shape[1], 2]);
            assert_eq!(sum(&x, &[2], false)?.dims(), &shape[..2]);
            assert_eq!(mean(&x, &[2], true)?.dims(), [shape[0], shape[1], 1]);
            assert_eq!(argmax(&x, Some(2), false)?.dims(), &shape[..2]);
            // Whatever these are of nothing, it is no panic.
            let _ = (amax(&x, &[], false), max_dim(&x, 1, false));
            let _ = (argmax(&x, None, false), topk(&x, 1, 1, true, true));
        }
    }
    Ok(())
}

#[test]
fn products() -> Result<()> {
    for dtype in FLOATS {
        for shape in [[0, 3, 4], [2, 0, 4]] {
            let (x, weight) = (seq(&shape, dtype, 5), seq(&[6, 4], dtype, 3));
            let bias = seq(&[6], dtype, 7);
            let expected = [shape[0], shape[1], 6];
            assert_eq!(linear(&x, &weight, Some(&bias))?.dims(), expected);
            assert_eq!(matmul(&x, &weight.t()?)?.dims(), expected);
            let square = [shape[0], shape[1], shape[1]];
            assert_eq!(bmm(&x, &x.transpose(1, 2)?)?.dims(), square);
        }
        let (x, weight) = (seq(&[0, 4], dtype, 5), seq(&[4, 6], dtype, 3));
        let bias = seq(&[6], dtype, 7);
        assert_eq!(addmm(&bias, &x, &weight, 1., 1.)?.dims(), [0, 6]);
        let image = seq(&[0, 2, 4, 4], dtype, 5);
        let kernel = seq(&[3, 2, 3, 3], dtype, 5);
        let y = conv2d(&image, &kernel, None, (1, 1), (1, 1), (1, 1), 1)?;
        assert_eq!(y.dims(), [0, 3, 4, 4]);
        let y = avg_pool2d(&image, (2, 2), (2, 2), (0, 0), false, true, None)?;
        assert_eq!(y.dims(), [0, 2, 2, 2]);
        let ids = Tensor::zeros((2, 0), DType::I64, &Device::Cpu)?;
        assert_eq!(embedding(&weight, &ids)?.dims(), [2, 0, 6]);
    }
    Ok(())
}

#[test]
fn attention() -> Result<()> {
    for dtype in FLOATS {
        for (batch, queries, keys) in [(0, 3, 3), (2, 0, 0), (2, 0, 3), (2, 3, 0)] {
            let q = seq(&[batch, 4, queries, 8], dtype, 5);
            let k = seq(&[batch, 2, keys, 8], dtype, 3);
            let mask = Tensor::ones((queries, keys), DType::U8, &Device::Cpu)?;
            for (mask, is_causal) in [(None, false), (None, true), (Some(&mask), false)] {
                let y = sdpa(&q, &k, &k, mask, is_causal, None)?;
                assert_eq!(y.dims(), [batch, 4, queries, 8]);
                assert!(values(&y).iter().all(|v| *v == 0.));
            }
            let table = seq(&[queries, 8], dtype, 3);
            assert_eq!(rope(&q, &table, &table)?.dims(), q.dims());
        }
    }
    assert_eq!(
        causal_mask(0, 3, 3, None, None, &Device::Cpu)?.dims(),
        [1, 1, 0, 3]
    );
    Ok(())
}
