//! How this crate talks to CPython; knows nothing of event loops.
//!
//! Everything `unsafe` that concerns the interpreter lives in the files of this folder, behind
//! small safe functions. Code in `crate::asyncio` uses these and PyO3's safe types only.

pub mod awaitable;
pub mod buffer;
pub mod byte_array;
pub mod c_function;
pub mod call;
pub mod class;
pub mod completion_api;
pub mod current_context;
pub mod error;
pub mod imports;
pub mod interpreter;
pub mod kept_bytes;
pub mod loop_owned;
pub mod method;
pub mod names;
pub mod objects;
pub mod originals;
pub mod recycled;
pub mod ssl;
pub mod thread_end;
