//! Socket addresses as the kernel gives them, and what is in them.
//!
//! IPv4 (ip(7)), IPv6 (ipv6(7)) and Unix sockets (unix(7)) are decoded; addresses of other families are kept as they
//! are, for Python's socket module to read. Equal addresses have equal bytes.
#![expect(unsafe_code, reason = "system calls and their address unions")]

use std::ffi::CStr;
use std::mem::{offset_of, MaybeUninit};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A `sockaddr` of any family.
#[derive(Clone)]
pub struct SocketAddress {
    storage: libc::sockaddr_storage,
    length: usize,
}

impl PartialEq for SocketAddress {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SocketAddress {}

impl std::fmt::Debug for SocketAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.decode().fmt(formatter)
    }
}

/// What is in an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    V4 {
        address: Ipv4Addr,
        port: u16,
    },
    V6 {
        address: Ipv6Addr,
        port: u16,
        flow_info: u32,
        scope_id: u32,
    },
    UnixPath(&'a [u8]),
    /// With the NUL that it begins with, see unix(7).
    UnixAbstract(&'a [u8]),
    UnixUnnamed,
    /// A family that is not decoded here.
    Other,
}

impl SocketAddress {
    /// Lets `fill` write an address; it gets the place and its size, and sets the size to what it wrote.
    pub(super) fn filled_by<R>(fill: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> R) -> (R, Self) {
        let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let result = fill(storage.as_mut_ptr().cast(), &raw mut length);
        // SAFETY: all zeroes is a valid sockaddr_storage, and so is whatever the kernel wrote over it.
        let storage = unsafe { storage.assume_init() };
        (result, Self { storage, length: (length as usize).min(size_of::<libc::sockaddr_storage>()) })
    }

    /// The address that these bytes are, as the kernel writes them (`as_bytes`); what is beyond the largest address is cut.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut made = Self::unspecified();
        made.length = bytes.len().min(size_of::<libc::sockaddr_storage>());
        // SAFETY: the storage has room for `length` bytes, and any bytes are a valid sockaddr_storage.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut made.storage).cast(), made.length) };
        made
    }

    /// No address.
    pub fn unspecified() -> Self {
        // SAFETY: all zeroes is a valid sockaddr_storage, of the family AF_UNSPEC.
        Self { storage: unsafe { MaybeUninit::zeroed().assume_init() }, length: 0 }
    }

    pub fn v4(address: Ipv4Addr, port: u16) -> Self {
        let mut made = Self::unspecified();
        // SAFETY: the storage is large enough and aligned for every kind of address.
        let place = unsafe { &mut *(&raw mut made.storage).cast::<libc::sockaddr_in>() };
        place.sin_family = libc::AF_INET as libc::sa_family_t;
        place.sin_port = port.to_be();
        place.sin_addr.s_addr = u32::from(address).to_be();
        made.measure(size_of::<libc::sockaddr_in>());
        made
    }

    pub fn v6(address: Ipv6Addr, port: u16, flow_info: u32, scope_id: u32) -> Self {
        let mut made = Self::unspecified();
        // SAFETY: as in `v4`.
        let place = unsafe { &mut *(&raw mut made.storage).cast::<libc::sockaddr_in6>() };
        place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        place.sin6_port = port.to_be();
        place.sin6_addr.s6_addr = address.octets();
        place.sin6_flowinfo = flow_info.to_be();
        place.sin6_scope_id = scope_id;
        made.measure(size_of::<libc::sockaddr_in6>());
        made
    }

    /// A path, or a name that begins with NUL (abstract), see unix(7). `None`: too long.
    pub fn unix(name: &[u8]) -> Option<Self> {
        let mut made = Self::unspecified();
        // SAFETY: as in `v4`.
        let place = unsafe { &mut *(&raw mut made.storage).cast::<libc::sockaddr_un>() };
        // A path is followed by a NUL, an abstract name is as long as it is said to be; instead of an empty one the
        // kernel chooses a name.
        let terminator = usize::from(name.first().is_some_and(|&first| first != 0));
        if name.len() + terminator > place.sun_path.len() {
            return None;
        }
        place.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (to, &from) in place.sun_path.iter_mut().zip(name) {
            *to = from as libc::c_char;
        }
        made.measure(offset_of!(libc::sockaddr_un, sun_path) + name.len() + terminator);
        Some(made)
    }

    /// Sets the length, which the kernels of BSD's family also write into the address.
    #[inline(always)]
    fn measure(&mut self, length: usize) {
        self.length = length;
        #[cfg(not(target_os = "linux"))]
        {
            self.storage.ss_len = length as u8;
        }
    }

    /// Where the kernel may write an address, and how much room is there.
    pub(super) fn place(&mut self) -> (*mut libc::sockaddr_storage, libc::socklen_t) {
        (&raw mut self.storage, size_of::<libc::sockaddr_storage>() as libc::socklen_t)
    }

    /// The kernel has written an address of `length` bytes.
    pub(super) fn set_length(&mut self, length: libc::socklen_t) {
        self.length = (length as usize).min(size_of::<libc::sockaddr_storage>());
    }

    pub(super) fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length as libc::socklen_t)
    }

    /// Whether there is no address.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The address as the kernel writes it; equal bytes are equal addresses.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the storage is initialised, and `length` is at most its size.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), self.length) }
    }

    /// The address family, such as AF_INET.
    pub fn family(&self) -> i32 {
        i32::from(self.storage.ss_family)
    }

    pub fn decode(&self) -> Decoded<'_> {
        let place = &raw const self.storage;
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says which of the overlaid structures this is; the storage is large
                // enough and aligned for each of them.
                let address = unsafe { &*place.cast::<libc::sockaddr_in>() };
                Decoded::V4 {
                    address: Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)),
                    port: u16::from_be(address.sin_port),
                }
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let address = unsafe { &*place.cast::<libc::sockaddr_in6>() };
                Decoded::V6 {
                    address: Ipv6Addr::from(address.sin6_addr.s6_addr),
                    port: u16::from_be(address.sin6_port),
                    flow_info: u32::from_be(address.sin6_flowinfo),
                    scope_id: address.sin6_scope_id,
                }
            }
            libc::AF_UNIX => self.decode_unix(),
            _ => Decoded::Other,
        }
    }

    fn decode_unix(&self) -> Decoded<'_> {
        let start = offset_of!(libc::sockaddr_un, sun_path);
        let length = self.length.saturating_sub(start);
        let name = &self.as_bytes()[self.length - length..];
        match name {
            [0, ..] if cfg!(target_os = "linux") => Decoded::UnixAbstract(name),
            [] | [0, ..] => Decoded::UnixUnnamed,
            path => Decoded::UnixPath(path.split(|&byte| byte == 0).next().unwrap_or_default()),
        }
    }
}

/// The name of a network interface, if_indextoname(3).
pub fn interface_name(index: u32) -> Option<String> {
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: the array has the size that the call asks for.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: on success the array holds a terminated string.
    let text = unsafe { CStr::from_ptr(name.as_ptr()) };
    text.to_str().ok().map(str::to_owned)
}

/// A `SocketAddress` in as little memory as most of them need: a connection keeps two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PackedAddress {
    /// The bytes, as many as the number says.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// Enough for IPv6, the largest but the paths of Unix sockets.
const SHORT: usize = size_of::<libc::sockaddr_in6>();

impl From<&SocketAddress> for PackedAddress {
    fn from(address: &SocketAddress) -> Self {
        let bytes = address.as_bytes();
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }
}

impl PackedAddress {
    pub fn unpacked(&self) -> SocketAddress {
        match self {
            Self::Short(length, bytes) => SocketAddress::from_bytes(&bytes[..usize::from(*length)]),
            Self::Long(bytes) => SocketAddress::from_bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_made_as_they_are_read() {
        let four = SocketAddress::v4(Ipv4Addr::new(192, 0, 2, 1), 80);
        assert_eq!(four.decode(), Decoded::V4 { address: Ipv4Addr::new(192, 0, 2, 1), port: 80 });
        let six = SocketAddress::v6(Ipv6Addr::LOCALHOST, 8080, 5, 2);
        let expected = Decoded::V6 { address: Ipv6Addr::LOCALHOST, port: 8080, flow_info: 5, scope_id: 2 };
        assert_eq!(six.decode(), expected);
        assert_ne!(four, six);
        let of_unix = |name: &[u8]| SocketAddress::unix(name);
        assert_eq!(of_unix(b"/tmp/x").expect("short").decode(), Decoded::UnixPath(b"/tmp/x"));
        #[cfg(target_os = "linux")]
        assert_eq!(of_unix(b"\0name").expect("short").decode(), Decoded::UnixAbstract(b"\0name"));
        assert_eq!(SocketAddress::unspecified().decode(), Decoded::Other);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_path_of_107_bytes_fits_and_a_longer_one_does_not() {
        assert!(SocketAddress::unix(&[b'x'; 107]).is_some());
        assert!(SocketAddress::unix(&[b'x'; 108]).is_none());
        let mut name = [b'x'; 108];
        name[0] = 0;
        assert!(SocketAddress::unix(&name).is_some());
    }

    #[test]
    fn addresses_are_packed_without_loss() {
        let path = [b'x'; 100];
        let unix = |name: &[u8]| SocketAddress::unix(name).expect("short enough");
        for address in [
            SocketAddress::unspecified(),
            SocketAddress::v4(Ipv4Addr::LOCALHOST, 80),
            SocketAddress::v6(Ipv6Addr::LOCALHOST, 443, 7, 9),
            unix(b"/run/socket"),
            unix(b"\0abstract"),
            unix(b""),
            unix(&path),
        ] {
            let packed = PackedAddress::from(&address);
            assert_eq!(packed.unpacked(), address);
            assert_eq!(matches!(packed, PackedAddress::Long(_)), address.as_bytes().len() > 28);
        }
        assert_eq!(size_of::<PackedAddress>(), 32);
    }
}
