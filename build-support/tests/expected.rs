//! Generated source as it is committed: `BLESS=1 cargo test -p pycandle-build --test expected`
//! writes it anew. What is compared here is compiled and held against PyTorch in `tests/parity`.

use std::path::Path;

use pycandle_build::{Config, generate, write_if_changed};

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models");
    let config = Config::new(format!("{name}_manifest.json")).root(&folder);
    let source = generate(&config)
        .expect("the model can be generated")
        .source;
    let again = generate(&config)
        .expect("the model can be generated")
        .source;
    assert_eq!(source, again, "two runs differ");

    let expected = folder.join("expected").join(format!("{name}.rs"));
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        write_if_changed(&expected, &source).expect("the file can be written");
    }
    let written = std::fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(
        source, written,
        "`{name}.rs` is not what is generated now: look at the difference, then run with BLESS=1"
    );
}

macro_rules! expected {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name));
        }
    )*};
}

expected! {
    attention bert block_caches buffers cnn encoder encoder_decoder from_the_end gemma2 gpt2 hidden_states
    joined
    keywords layer_caches llama many_inputs masked_half qwen3_bf16 recurrent resnet revisited shared sized steps taps
    tied twice two_caches vit
}
