//! Sizes for which a trace does not hold are refused, and the error says which and why.

use std::path::Path;

use pycandle::{DType, Device, Result, Tensor, Weights};
use pycandle_parity_tests::models::{sized, sized_unfused};

/// Batch, queries and memory of a run of `sized`, and what the error has to say.
const REFUSED: &[(usize, usize, usize, &str)] = &[
    (2, 8, 9, "queries != 8 (sized.py:22), not for queries = 8"),
    (
        2,
        4,
        3,
        "queries <= memory (sized.py:24), not for queries = 4, memory = 3",
    ),
    (
        2,
        4,
        11,
        "(memory - queries) // 2 != 3 (sized.py:27), not for queries = 4, memory = 11",
    ),
    (
        2,
        3,
        5,
        "queries % 2 == 0 (sized.py:29), not for queries = 3",
    ),
    (1, 4, 6, "batch != 1 (sized.py:29), not for batch = 1"),
];

fn inputs(batch: usize, queries: usize, memory: usize) -> Result<[Tensor; 2]> {
    let zeros = |n| Tensor::zeros((batch, n, 4), DType::F32, &Device::Cpu);
    Ok([zeros(queries)?, zeros(memory)?])
}

macro_rules! refuses {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
            let weights = Weights::open(folder.join("sized.safetensors"))?;
            let model = $name::Model::load(&weights, &Device::Cpu)?;
            for &(batch, queries, memory, why) in REFUSED {
                let [query, memory] = inputs(batch, queries, memory)?;
                let error = match model.forward(&query, &memory) {
                    Ok(_) => panic!("{batch}, {queries}, {memory} is taken"),
                    Err(error) => error.to_string(),
                };
                let expected = format!("the trace holds only where {why}: record again");
                assert!(error.contains(&expected), "{expected}\nis not in\n{error}");
            }
            for (batch, queries, memory) in [(2, 6, 6), (3, 10, 19), (0, 0, 0), (2, 2, 7)] {
                let [query, memory] = inputs(batch, queries, memory)?;
                let out = model.forward(&query, &memory)?;
                assert_eq!(out.dims(), [batch, 2, queries / 2, 4]);
            }
            Ok(())
        }
    )*};
}

refuses! { sized sized_unfused }
