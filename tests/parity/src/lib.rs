//! Every recorded model as generated code; what the build script wrote compiles without a warning.

#![deny(warnings)]

/// Whole models and small structures.
pub mod models {
    include!(concat!(env!("OUT_DIR"), "/models_modules.rs"));
}

/// One op each.
#[allow(non_snake_case)]
pub mod ops {
    include!(concat!(env!("OUT_DIR"), "/ops_modules.rs"));
}

/// A model applied to its own output again and again, as one graph of 3000 operations.
pub mod long {
    include!(concat!(env!("OUT_DIR"), "/long.rs"));
}
