//! Parse, start, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything can ask for TLS: rustls panics where it has no provider. It fails where one is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    sparkmesh::cli::main(std::env::args_os())
}
