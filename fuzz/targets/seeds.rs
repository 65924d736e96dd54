//! Writes the wire vectors as inputs of `decode`.
//!
//! `seeds FOLDER`; so the folder needn't be kept, and no row is ever missing.

use std::path::Path;

use midge_mqtt::vectors;

#[path = "../bodies/seed.rs"]
mod seed;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).ok_or_else(|| std::io::Error::other("usage: seeds FOLDER"))?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    for (number, vector) in vectors::all().into_iter().enumerate() {
        std::fs::write(folder.join(format!("vector-{number}")), seed::of(&vector))?;
    }
    Ok(())
}
