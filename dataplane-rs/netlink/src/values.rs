//! The small values that entries are made of, each parsed once, on its way in.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A device's name: 1 to 15 bytes (IFNAMSIZ less its NUL), kept inline, as each entry has one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DevName {
    bytes: [u8; 15],
    len: u8,
}

impl DevName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for DevName {
    type Err = String;

    /// The kernel's `dev_valid_name`: no `/`, `:`, white space, `.` or `..`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace() || c == '\0';
        if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(bad) {
            return Err(format!(
                "{text:?} is not a device name (1 to 15 bytes, no space, / or :)"
            ));
        }
        let mut bytes = [0; 15];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self {
            bytes,
            len: text.len() as u8,
        })
    }
}

impl fmt::Display for DevName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DevName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// An EUI-48 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address in a netlink attribute; none for a device without one of six bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// All zero: a VXLAN device's default destination.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a MAC address (six hex pairs with colons)");
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        if pairs.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An address with a prefix length. Host bits are kept: `10.1.40.1/24` is an interface's address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Cidr {
    pub ip: IpAddr,
    pub len: u8,
}

impl Cidr {
    /// The longest prefix of the address's family.
    pub fn is_host(&self) -> bool {
        self.len == if self.ip.is_ipv4() { 32 } else { 128 }
    }

    /// The subnet's first address.
    pub fn base(&self) -> IpAddr {
        self.base_of_length(self.len)
    }

    /// Whether all of `other` lies in this subnet.
    pub fn contains(&self, other: Self) -> bool {
        self.ip.is_ipv4() == other.ip.is_ipv4()
            && self.len <= other.len
            && other.base_of_length(self.len) == self.base()
    }

    fn base_of_length(&self, len: u8) -> IpAddr {
        let host = |bits: u8| u32::from(bits - len);
        match self.ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(host(32)).unwrap_or(0);
                IpAddr::V4((u32::from(ip) & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(host(128)).unwrap_or(0);
                IpAddr::V6((u128::from(ip) & mask).into())
            }
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an ADDRESS/LENGTH");
        let (ip, len) = text.split_once('/').ok_or_else(wrong)?;
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let len: u8 = len.parse().map_err(|_| wrong())?;
        if len > if ip.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        Ok(Self { ip, len })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.len)
    }
}

/// Parses a JSON string in place, without a copy of it.
struct FromText<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! deserialize_from_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(FromText(std::marker::PhantomData))
            }
        }
    )*};
}

deserialize_from_text!(DevName, Mac, Cidr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_a_subnet_and_what_lies_in_it() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        for (text, base) in [
            ("10.1.40.1/24", "10.1.40.0"),
            ("10.1.40.1/32", "10.1.40.1"),
            ("10.1.40.1/0", "0.0.0.0"),
            ("fd00:1::5/64", "fd00:1::"),
            ("fd00::1/0", "::"),
        ] {
            assert_eq!(cidr(text).base(), base.parse::<IpAddr>().unwrap());
        }
        assert!(cidr("10.1.0.0/16").contains(cidr("10.1.255.0/24")));
        assert!(cidr("10.1.0.0/16").contains(cidr("10.1.0.0/16")));
        assert!(!cidr("10.1.0.0/16").contains(cidr("10.2.0.0/24")));
        assert!(!cidr("10.1.0.0/16").contains(cidr("10.0.0.0/8")));
        assert!(!cidr("0.0.0.0/0").contains(cidr("fd00::/64")));
    }

    #[test]
    fn device_names() {
        assert_eq!(
            "flannel.1".parse::<DevName>().unwrap().as_str(),
            "flannel.1"
        );
        for bad in ["", ".", "a/b", "a b", "a:1", "sixteen-bytes-xx"] {
            assert!(bad.parse::<DevName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn macs() {
        let mac: Mac = "a2:4e:ac:cd:67:20".parse().unwrap();
        assert_eq!(mac.to_string(), "a2:4e:ac:cd:67:20");
        for bad in [
            "",
            "a2:4e:ac:cd:67",
            "a2:4e:ac:cd:67:20:00",
            "a2:4e:ac:cd:67:2",
            "+2:4e:ac:cd:67:2",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cidrs() {
        let cidr: Cidr = "fd00:1::/64".parse().unwrap();
        assert_eq!(cidr.to_string(), "fd00:1::/64");
        assert!(!cidr.is_host());
        for bad in ["10.1.0.0", "10.1.0.0/33", "fd00::/129", "10.1/16", "/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
    }
}
