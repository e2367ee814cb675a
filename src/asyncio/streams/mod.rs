//! asyncio's streams (`asyncio.StreamReader`), without the parts of them that are Python code and are run for every read.
//!
//! ```text
//!   known.rs       asyncio's classes, and whether they are as they were
//!   attributes.rs  the reader's attributes, which stay where asyncio's own code expects them
//!   feed.rs        what comes from the socket goes into the reader's buffer       StreamReader.feed_data
//!   adoption.rs    readers and writers of the loop's connections get a class of ours
//!   native.rs      these classes, and their native methods                        StreamReader.read, StreamWriter.drain, ...
//!   work.rs        what such a method is to do
//!   coroutine.rs   what these methods return, to be awaited                       the coroutines of asyncio's
//!   reading.rs     what of the buffer is to be taken
//!   draining.rs    whether there is something to wait for
//! ```
//!
//! Native code does what happens all the time: bytes come, somebody waits for them, takes them, answers. Whatever is unusual (errors, the
//! end of the stream, limits, something that was replaced) is left to asyncio's own methods, from the state that they would
//! have found, so their exceptions are those of the running version.

mod adoption;
mod attributes;
mod coroutine;
mod draining;
mod feed;
mod known;
mod native;
mod reading;
mod work;

pub use adoption::{adopt, adopt_reader, Introduction};
pub use coroutine::{set_up, with_coroutine_of, StreamCoroutine};
pub use feed::Feed;
pub use known::is_reader_protocol;
