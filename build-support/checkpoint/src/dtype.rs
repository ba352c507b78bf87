//! How the elements of a tensor are stored.

use std::fmt;

macro_rules! dtypes {
    ($($name:ident $text:literal $bytes:literal / $elements:literal,)*) => {
        /// How elements are stored: one of the types of safetensors, or a block format of GGUF.
        ///
        /// Sources: the safetensors format; GGUF's `ggml_type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types, missing_docs)]
        #[non_exhaustive]
        pub enum Dtype { $($name,)* }

        impl Dtype {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name that the file formats use, as `BF16` or `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Bytes of a block, and elements in it; several elements share a block only where
            /// they cannot be addressed one by one.
            pub fn block(self) -> (u64, u64) {
                match self { $(Self::$name => ($bytes, $elements),)* }
            }
        }
    };
}

dtypes! {
    F4 "F4" 1/2,
    F6_E2M3 "F6_E2M3" 3/4,
    F6_E3M2 "F6_E3M2" 3/4,
    Bool "BOOL" 1/1,
    U8 "U8" 1/1,
    I8 "I8" 1/1,
    F8_E5M2 "F8_E5M2" 1/1,
    F8_E4M3 "F8_E4M3" 1/1,
    F8_E8M0 "F8_E8M0" 1/1,
    F8_E4M3FNUZ "F8_E4M3FNUZ" 1/1,
    F8_E5M2FNUZ "F8_E5M2FNUZ" 1/1,
    I16 "I16" 2/1,
    U16 "U16" 2/1,
    F16 "F16" 2/1,
    BF16 "BF16" 2/1,
    I32 "I32" 4/1,
    U32 "U32" 4/1,
    F32 "F32" 4/1,
    I64 "I64" 8/1,
    U64 "U64" 8/1,
    F64 "F64" 8/1,
    C64 "C64" 8/1,
    Q4_0 "Q4_0" 18/32,
    Q4_1 "Q4_1" 20/32,
    Q5_0 "Q5_0" 22/32,
    Q5_1 "Q5_1" 24/32,
    Q8_0 "Q8_0" 34/32,
    Q8_1 "Q8_1" 36/32,
    Q2_K "Q2_K" 84/256,
    Q3_K "Q3_K" 110/256,
    Q4_K "Q4_K" 144/256,
    Q5_K "Q5_K" 176/256,
    Q6_K "Q6_K" 210/256,
    Q8_K "Q8_K" 292/256,
    IQ1_S "IQ1_S" 50/256,
    IQ1_M "IQ1_M" 56/256,
    IQ2_XXS "IQ2_XXS" 66/256,
    IQ2_XS "IQ2_XS" 74/256,
    IQ2_S "IQ2_S" 82/256,
    IQ3_XXS "IQ3_XXS" 98/256,
    IQ3_S "IQ3_S" 110/256,
    IQ4_NL "IQ4_NL" 18/32,
    IQ4_XS "IQ4_XS" 136/256,
    TQ1_0 "TQ1_0" 54/256,
    TQ2_0 "TQ2_0" 66/256,
    MXFP4 "MXFP4" 17/32,
    NVFP4 "NVFP4" 36/64,
    Q1_0 "Q1_0" 18/128,
}

/// The codes of GGUF's `ggml_type`.
const GGUF: &[(u32, Dtype)] = &[
    (0, Dtype::F32),
    (1, Dtype::F16),
    (2, Dtype::Q4_0),
    (3, Dtype::Q4_1),
    (6, Dtype::Q5_0),
    (7, Dtype::Q5_1),
    (8, Dtype::Q8_0),
    (9, Dtype::Q8_1),
    (10, Dtype::Q2_K),
    (11, Dtype::Q3_K),
    (12, Dtype::Q4_K),
    (13, Dtype::Q5_K),
    (14, Dtype::Q6_K),
    (15, Dtype::Q8_K),
    (16, Dtype::IQ2_XXS),
    (17, Dtype::IQ2_XS),
    (18, Dtype::IQ3_XXS),
    (19, Dtype::IQ1_S),
    (20, Dtype::IQ4_NL),
    (21, Dtype::IQ3_S),
    (22, Dtype::IQ2_S),
    (23, Dtype::IQ4_XS),
    (24, Dtype::I8),
    (25, Dtype::I16),
    (26, Dtype::I32),
    (27, Dtype::I64),
    (28, Dtype::F64),
    (29, Dtype::IQ1_M),
    (30, Dtype::BF16),
    (34, Dtype::TQ1_0),
    (35, Dtype::TQ2_0),
    (39, Dtype::MXFP4),
    (40, Dtype::NVFP4),
    (41, Dtype::Q1_0),
];

impl Dtype {
    /// The dtype of this name; safetensors files write it so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|dtype| dtype.name() == name)
    }

    /// The types that are no block format of GGUF: those of safetensors.
    pub(crate) fn plain() -> impl Iterator<Item = Self> {
        let all = Self::ALL.iter().copied();
        all.filter(|dtype| !dtype.is_quantized())
    }

    pub(crate) fn from_gguf(code: u32) -> Option<Self> {
        let mut codes = GGUF.iter();
        codes.find(|&&(c, _)| c == code).map(|&(_, dtype)| dtype)
    }

    /// Whether it is a block format of GGUF.
    pub fn is_quantized(self) -> bool {
        self >= Self::Q4_0
    }

    /// Whether it is a plain floating-point type.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8_E4M3 | Self::F8_E5M2
        )
    }

    /// Bytes of a tensor of this shape; the last dimension consists of whole blocks.
    ///
    /// `None` when the last dimension is no multiple of a block, or the number exceeds 64 bits.
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        self.size(shape).ok()
    }

    /// [`Dtype::bytes`], or why there is no such number.
    pub(crate) fn size(self, shape: &[usize]) -> Result<u64, String> {
        let (bytes, elements) = self.block();
        let uncountable = || format!("{self} {shape:?} takes more bytes than 64 bits can count");
        let count = shape
            .iter()
            .try_fold(1u64, |n, &dim| n.checked_mul(u64::try_from(dim).ok()?))
            .ok_or_else(uncountable)?;
        let row = shape.last().map_or(1, |&dim| dim as u64);
        // The sub-byte types of safetensors are packed over the whole tensor, blocks lie in a row.
        if self.is_quantized() && !row.is_multiple_of(elements) {
            return Err(format!(
                "{self} {shape:?} has rows of {row}, which are no whole blocks of {elements}"
            ));
        }
        if !count.is_multiple_of(elements) {
            return Err(format!(
                "{self} {shape:?} has {count} elements, which fill no whole number of bytes"
            ));
        }
        (count / elements)
            .checked_mul(bytes)
            .ok_or_else(uncountable)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_formats() {
        assert_eq!(Dtype::F32.bytes(&[2, 3]), Some(24));
        assert_eq!(Dtype::F32.bytes(&[]), Some(4));
        assert_eq!(Dtype::F4.bytes(&[3, 2]), Some(3));
        assert_eq!(Dtype::F4.bytes(&[3]), None);
        assert_eq!(Dtype::Q4_K.bytes(&[3, 512]), Some(864));
        assert_eq!(Dtype::Q4_K.bytes(&[256, 3]), None);
        assert_eq!(Dtype::Q8_0.bytes(&[usize::MAX, 32, 32]), None);
        assert_eq!(Dtype::F64.bytes(&[0, usize::MAX]), Some(0));
    }

    #[test]
    fn what_has_no_size_says_why() {
        let check = |dtype: Dtype, shape: &[usize], expected: &str| {
            assert_eq!(dtype.size(shape), Err(expected.to_owned()));
        };
        let large = 1 << 40;
        check(
            Dtype::F32,
            &[large, large],
            "F32 [1099511627776, 1099511627776] takes more bytes than 64 bits can count",
        );
        check(
            Dtype::F64,
            &[1 << 61, 4],
            "F64 [2305843009213693952, 4] takes more bytes than 64 bits can count",
        );
        check(
            Dtype::Q8_0,
            &[32, 33],
            "Q8_0 [32, 33] has rows of 33, which are no whole blocks of 32",
        );
        check(
            Dtype::F4,
            &[3],
            "F4 [3] has 3 elements, which fill no whole number of bytes",
        );
    }

    #[test]
    fn names_are_read_back() {
        for &dtype in Dtype::ALL {
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::from_name("F33"), None);
    }
}
