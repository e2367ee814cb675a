//! The documentation of `create_task`, whose first line is its signature: what `inspect.signature` reads of a native method.
//!
//! The parameters are those of the Python that this is built for. Between micro versions it cannot tell: 3.13 takes
//! other keywords since 3.13.3. Which are taken is up to the inherited method that the keywords are handed to.

use std::ffi::CStr;

macro_rules! create_task_doc {
    ($parameters:literal) => {
        match CStr::from_bytes_with_nul(
            concat!(
                "create_task($self, /, coro, ",
                $parameters,
                ")\n--\n\n",
                "Wrap a coroutine in a task of this loop and schedule it.\n\n",
                "Takes the keywords of the running Python: name, context (3.11), eager_start (3.14), and whatever\n",
                "the task factory takes (3.13.3).\0"
            )
            .as_bytes(),
        ) {
            Ok(doc) => doc,
            Err(_) => panic!("its only NUL is at its end"),
        }
    };
}

pub const CREATE_TASK: &CStr = if cfg!(Py_3_14) {
    create_task_doc!("**kwargs")
} else if cfg!(Py_3_13) {
    create_task_doc!("*, name=None, context=None, **kwargs")
} else if cfg!(Py_3_11) {
    create_task_doc!("*, name=None, context=None")
} else {
    create_task_doc!("*, name=None")
};
