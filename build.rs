//! Build script: tells rustc about the interpreter that the extension is built for.
//!
//! `cfg(Py_3_12)` and its like, and `cfg(Py_GIL_DISABLED)`, come from PyO3's own
//! configuration; `cargo test` additionally needs the folder of libpython.

fn main() {
    #[cfg(feature = "python")]
    {
        // Also `py_sys_config = "Py_DEBUG"`, for what debug builds must not do.
        pyo3_build_config::use_pyo3_cfgs();
        pyo3_build_config::add_libpython_rpath_link_args();
    }
}
