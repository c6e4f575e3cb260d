//! One HTTP request, as far as it concerns us: which of a few paths it asks for.

use std::net::Ipv6Addr;

use httparse::{EMPTY_HEADER, Status};

/// Bytes of a request's head.
pub const LONGEST: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

/// What came of the bytes received.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More are to come.
    Partial,
    Request {
        path: String,
        /// HEAD: the answer has no body.
        head_only: bool,
    },
    /// A status by which it is refused.
    Refused(u16),
}

/// Reads a request's head. Bodies, and requests behind the first, are nothing to us.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if bytes.len() >= LONGEST => return Parsed::Refused(431),
        Ok(Status::Partial) => return Parsed::Partial,
        Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(431),
        Err(httparse::Error::Version) => return Parsed::Refused(505),
        Err(_) => return Parsed::Refused(400),
    }
    let mut hosts = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("host"));
    let valid = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_host(host.value),
        (None, _) => request.version == Some(0),
        (Some(_), Some(_)) => false,
    };
    let Some(path) = request.path.and_then(path_of).filter(|_| valid) else {
        return Parsed::Refused(400);
    };
    match request.method {
        Some(method @ ("GET" | "HEAD")) => Parsed::Request {
            path: path.to_owned(),
            head_only: method == "HEAD",
        },
        _ => Parsed::Refused(405),
    }
}

/// The path of a request's target: `/x`, `/x?query`, or `http://host/x` as proxies send it.
fn path_of(target: &str) -> Option<&str> {
    let path = match target.split_once("://") {
        Some(("http" | "https", rest)) => &rest[rest.find('/')?..],
        _ => target,
    };
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    path.starts_with('/').then_some(path)
}

/// Whether a `Host` is a name or an address, with or without a port; it may be empty.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let port = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => port,
            _ => return false,
        },
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let valid =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
            if !name.bytes().all(valid) {
                return false;
            }
            port
        }
    };
    match port.strip_prefix(':') {
        Some(digits) => digits.is_empty() || digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Parsed {
        Parsed::Request {
            path: path.into(),
            head_only: false,
        }
    }

    fn with_host(host: &str) -> Parsed {
        parse(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    #[test]
    fn requests() {
        assert_eq!(parse(b"GET /healthz HTTP/1.0\r\n\r\n"), get("/healthz"));
        assert_eq!(parse(b"GET /a?b#c HTTP/1.1\nhost:x\n\nGET /d"), get("/a"));
        assert_eq!(parse(b"GET http://x/y?z HTTP/1.0\r\n\r\n"), get("/y"));
        assert_eq!(
            parse(b"HEAD / HTTP/1.0\r\n\r\n"),
            Parsed::Request {
                path: "/".into(),
                head_only: true
            }
        );
        for end in 0..24 {
            let whole = b"GET /healthz HTTP/1.0\r\n\r\n";
            assert_eq!(parse(&whole[..end]), Parsed::Partial, "{end}");
        }
    }

    #[test]
    fn refusals() {
        for (status, bytes) in [
            (400, &b"GET /healthz\r\n\r\n"[..]),
            (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            (400, b"GET / HTTP/1.1\r\n\r\n"),
            (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            (400, b"GET x HTTP/1.0\r\n\r\n"),
            (400, b"GET http://x HTTP/1.0\r\n\r\n"),
            (400, b"GET / HTTP/1.0\r\nA\x00: b\r\n\r\n"),
            (400, b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            (405, b"OPTIONS / HTTP/1.0\r\n\r\n"),
            (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ] {
            let text = String::from_utf8_lossy(bytes);
            assert_eq!(parse(bytes), Parsed::Refused(status), "{text}");
        }
        let many = format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(65));
        assert_eq!(parse(many.as_bytes()), Parsed::Refused(431));
        let long = format!("GET / HTTP/1.0\r\na: {}", "b".repeat(LONGEST));
        assert_eq!(parse(long.as_bytes()), Parsed::Refused(431));
    }

    #[test]
    fn hosts() {
        for host in [
            "",
            "x",
            "a.b:80",
            "a:",
            "127.0.0.1:8080",
            "[::1]",
            "[fd00::1]:80",
            "a_b",
        ] {
            assert_eq!(with_host(host), get("/"), "{host}");
        }
        for host in [
            "[", "[]", "[::1", "[x]:1", "[::1]x", "a:b", "a:70000", "a b", "a/b", "a@b",
        ] {
            assert_eq!(with_host(host), Parsed::Refused(400), "{host}");
        }
    }
}
