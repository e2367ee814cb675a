//! Build script: tells rustc about the interpreter that the extension is built for.
//!
//! `cfg(Py_3_12)` and its like, and `cfg(Py_GIL_DISABLED)`, come from PyO3's own
//! configuration; `cargo test` additionally needs the folder of libpython.
//!
//! And it refuses the systems that the reactor is not written for, in words that help whoever runs
//! `pip install` there, before the compiler does in words that do not. On macOS it says that nobody has tried it.

use std::process::exit;

fn main() {
    let system = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    match system.as_str() {
        "linux" => {}
        "macos" => println!("cargo:warning={UNTESTED}"),
        _ => {
            eprintln!("{}", refusal(&system));
            exit(1);
        }
    }
    #[cfg(feature = "python")]
    {
        // Also `py_sys_config = "Py_DEBUG"`, for what debug builds must not do.
        pyo3_build_config::use_pyo3_cfgs();
        pyo3_build_config::add_libpython_rpath_link_args();
    }
}

const UNTESTED: &str = "ironloop compiles for macOS, but nobody has run it there: its kqueue backend is untested. \
    For programs that have to work, name the dependency as: ironloop; sys_platform == \"linux\"";

/// Why there is no ironloop for a system, and what to do instead.
fn refusal(system: &str) -> String {
    format!(
        "\n\
        ironloop runs on Linux only, and this is {system}.\n\
        \n\
        Its reactor is epoll, or kqueue on macOS (untested); there is none for this system (ARCHITECTURE.md, \"Reactor\").\n\
        Programs need not care: run them on asyncio's own loop here, and have the dependency read\n\
        \n\
        \x20   ironloop; sys_platform == \"linux\"\n\
        \n\
        so that it is installed where it works. On Windows, ironloop works in WSL 2.\n"
    )
}
