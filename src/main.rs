//! The `tollgate` command: arguments to a command of [`tollgate::cli`].

use std::process::ExitCode;

/// mimalloc measured cheaper per request than the system's allocator. It has to be a static; the
/// crate has no other.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::cli::main(std::env::args_os())
}
