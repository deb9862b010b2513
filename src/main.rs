//! The `tollgate` command: arguments to a command of [`tollgate::cli`].

use std::process::ExitCode;

/// jemalloc gives memory back to the system when connections have closed, and holds an idle one in
/// 20 KiB where mimalloc takes 29, at the same cost per request (measured; the decay times are in
/// `.cargo/config.toml`). It has to be a static; the crate has no other.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tollgate::cli::main(std::env::args_os())
}
