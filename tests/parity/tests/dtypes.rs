//! Models in another dtype than they were traced in: against the run of PyTorch in a higher precision.

use pycandle::{DType, Device, Result, Tensor, Weights};
use pycandle_parity_tests::{distance, file, models};

/// The traced dtype's own error, and that of the model in each of the other dtypes.
macro_rules! errors {
    ($name:ident, $($dtype:ident),*) => {{
        use models::$name::Model;
        let device = Device::Cpu;
        let name = stringify!($name);
        let weights = Weights::open(file(&format!("{name}.safetensors")))?;
        let golden = pycandle::candle_core::safetensors::load(
            file(&format!("{name}_generate.safetensors")),
            &device,
        )?;
        let tokens = &golden["tokens"];
        let tokens = tokens.narrow(1, 0, tokens.dim(1)? - 1)?;
        let tokens = Tensor::cat(&[&golden["prompt"], &tokens], 1)?;
        let ones = Tensor::ones(tokens.shape(), DType::I64, &device)?;
        let torch = distance(&golden["logits"], &golden["truth"])?;
        let error = |dtype| -> Result<f64> {
            let model = Model::load_as(&weights, dtype, &device)?;
            let logits = model.forward(&tokens, &ones, &mut model.cache())?;
            assert_eq!(logits.dtype(), dtype);
            distance(&logits, &golden["truth"])
        };
        (torch, [$(error(DType::$dtype)?),*])
    }};
}

macro_rules! half {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            let (torch, [f16, f32]) = errors!($name, F16, F32);
            assert!(f32 < 1e-5, "{f32:e} in f32");
            // Three bits more than bf16.
            assert!(f16 < torch / 2., "{f16:e} in f16, PyTorch {torch:e} in bf16");
            Ok(())
        }
    )*};
}

half!(llama_bf16 mistral_bf16 qwen2_bf16 qwen3_bf16);

macro_rules! single {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            let (torch, [f64]) = errors!($name, F64);
            assert!(f64 < torch / 100., "{f64:e} in f64, PyTorch {torch:e} in f32");
            Ok(())
        }
    )*};
}

single!(gpt2 llama qwen3);
