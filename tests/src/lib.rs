//! Tests of the whole workspace; the crate itself is empty.
