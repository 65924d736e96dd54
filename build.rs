//! Turns the ABI header into Rust and checks it.
//!
//! Where Mosquitto's own headers are installed, a layout of ours that differs from theirs ends the build.

use std::env;
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=include/mosquitto_abi.h");
    println!("cargo::rerun-if-changed=include/abi_check.c");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    bindgen::Builder::default()
        .header("include/mosquitto_abi.h")
        .allowlist_file("include/mosquitto_abi.h")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(false)
        .generate()?
        .write_to_file(out.join("mosquitto_abi.rs"))?;
    check_against_installed_headers();
    Ok(())
}

fn check_against_installed_headers() {
    let header = |name: &str| ["/usr/include", "/usr/local/include"].iter().any(|dir| PathBuf::from(dir).join(name).exists());
    for name in ["mosquitto_broker.h", "mosquitto_plugin.h"] {
        println!("cargo::rerun-if-changed=/usr/include/{name}");
    }
    if header("mosquitto_broker.h") && header("mosquitto_plugin.h") && header("mosquitto.h") {
        cc::Build::new()
            .file("include/abi_check.c")
            .include("include")
            .flag("-Wno-enum-compare")
            .cargo_metadata(false)
            .compile("midge_abi_check");
    } else {
        println!("cargo::warning=Mosquitto's headers are not installed: the ABI is not compared with them");
    }
}
