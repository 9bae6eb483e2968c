//! Compiles the .proto files with protox, so that building needs no protoc.

use std::path::PathBuf;

use prost_build::Config;

const FILES: &[&str] = &[
    "inference/model_config.proto",
    "inference/grpc_service.proto",
    "ired/v1/models.proto",
    "ired/v1/compile.proto",
    "ired/v1/devices.proto",
    "ired/v1/traces.proto",
    "ired/v1/activity.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("ired_descriptor.bin"), compiler.encode_file_descriptor_set())?;

    let mut config = Config::new();
    // Tensors and chunks stay slices of the received message.
    config.bytes(["."]);
    tonic_prost_build::configure()
        .codec_path("crate::codec::BoundedCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;

    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    Ok(())
}
