//! Socket addresses: whatever bytes they are, reading them is safe, and what is made is what is read.
//!
//! `SocketAddress` is overlaid structures of C, so this is where a mistake would be out of bounds. No I/O.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use ironloop::engine::sys::addr::{Decoded, SocketAddress};
use ironloop_fuzz::Choices;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let given = SocketAddress::from_bytes(data);
    assert!(data.starts_with(given.as_bytes()));
    assert_eq!(given.is_empty(), data.is_empty());
    if let Decoded::UnixPath(path) | Decoded::UnixAbstract(path) = given.decode() {
        assert!(path.len() <= data.len(), "longer than what there was");
    }
    let mut choices = Choices::new(data);
    let (address, port, flow_info) = (choices.number(), choices.byte().into(), choices.number() as u32 & 0xf_ffff);
    let v4 = Ipv4Addr::from(address as u32);
    assert_eq!(SocketAddress::v4(v4, port).decode(), Decoded::V4 { address: v4, port });
    let v6 = Ipv6Addr::from(u128::from(address) << 64 | u128::from(choices.number()));
    let scope_id = choices.number() as u32;
    let made = SocketAddress::v6(v6, port, flow_info, scope_id);
    assert_eq!(made.decode(), Decoded::V6 { address: v6, port, flow_info, scope_id });
    assert_eq!(SocketAddress::from_bytes(made.as_bytes()).decode(), made.decode());
    if let Some(unix) = SocketAddress::unix(data) {
        match unix.decode() {
            Decoded::UnixPath(path) => assert!(data.starts_with(path)),
            Decoded::UnixAbstract(name) => assert_eq!(name, data),
            Decoded::UnixUnnamed => assert!(data.is_empty()),
            other => panic!("{other:?}"),
        }
    }
});
