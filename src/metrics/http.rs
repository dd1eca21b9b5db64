//! As much of HTTP/1 (RFC 9112) as a scraper and a health check need: one request, one answer, the end.

/// Longest request line with its headers.
pub const HEAD_BYTES: usize = 8 * 1024;

/// What was read of a request so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Its head is not whole.
    Incomplete,
    /// It asks for this path.
    Get {
        /// Without its query.
        path: &'a str,
        /// Only the head of the answer (`HEAD`).
        head_only: bool,
    },
    /// It is answered with this, whatever it asks for.
    Refused(Status),
}

/// Status codes that are used (RFC 9110, 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 200
    Ok,
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    RequestTimeout,
    /// 431
    HeadTooLarge,
    /// 503
    Unavailable,
    /// 505
    VersionNotSupported,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }

    /// What a refused request is told.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ok => "ready\n",
            Self::BadRequest => "This is no HTTP/1 request.\n",
            Self::NotFound => "There are /metrics and /healthz.\n",
            Self::MethodNotAllowed => "There are GET and HEAD.\n",
            Self::RequestTimeout => "The request did not come in time.\n",
            Self::HeadTooLarge => "The request has more than 8 KiB before its first empty line.\n",
            Self::Unavailable => "draining\n",
            Self::VersionNotSupported => "There are HTTP/1.0 and HTTP/1.1.\n",
        }
    }
}

/// Reads the head of a request.
pub fn parse(received: &[u8]) -> Request<'_> {
    // A line may end without CR (RFC 9112, 2.2), and empty lines before the first do not count.
    let start = received.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(received.len());
    let request = &received[start..];
    let line_end = request.iter().position(|byte| *byte == b'\n');
    let whole = contains(request, b"\n\r\n") || contains(request, b"\n\n");
    let Some(line_end) = line_end.filter(|_| whole) else {
        // What is no HTTP is told so at once: it would wait for an answer as we for its end.
        let first = &request[..line_end.unwrap_or(request.len())];
        return match request_line(first.strip_suffix(b"\r").unwrap_or(first)) {
            Request::Refused(status) if line_end.is_some() => Request::Refused(status),
            _ if received.len() > HEAD_BYTES => Request::Refused(Status::HeadTooLarge),
            _ => Request::Incomplete,
        };
    };
    let line = &request[..line_end];
    request_line(line.strip_suffix(b"\r").unwrap_or(line))
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn request_line(line: &[u8]) -> Request<'_> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    let mut words = line.unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Request::Refused(Status::BadRequest);
    };
    match version {
        "HTTP/1.0" | "HTTP/1.1" => {}
        _ if version.starts_with("HTTP/") => return Request::Refused(Status::VersionNotSupported),
        _ => return Request::Refused(Status::BadRequest),
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Request::Refused(Status::MethodNotAllowed),
    };
    // A proxy's form of it has scheme and host in front (RFC 9112, 3.2.2).
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    Request::Get { path, head_only }
}

/// An answer, after which the connection ends.
pub fn answer(status: Status, body: &str, head_only: bool) -> Vec<u8> {
    // The format's own content type; a plain text is one of its kind.
    let mut head = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n",
        status.line(),
        body.len()
    );
    if status == Status::MethodNotAllowed {
        head.push_str("Allow: GET, HEAD\r\n");
    }
    head.push_str("\r\n");
    let mut answer = head.into_bytes();
    if !head_only {
        answer.extend_from_slice(body.as_bytes());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Request<'_> {
        Request::Get { path, head_only: false }
    }

    #[test]
    fn requests_of_scrapers_and_checks() {
        assert_eq!(parse(b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"), get("/metrics"));
        assert_eq!(parse(b"GET /metrics?x=1 HTTP/1.0\r\n\r\n"), get("/metrics"));
        assert_eq!(parse(b"GET http://host:9/healthz HTTP/1.1\r\n\r\n"), get("/healthz"));
        assert_eq!(parse(b"GET http://host HTTP/1.1\r\n\r\n"), get("/"));
        assert_eq!(parse(b"\r\nGET / HTTP/1.1\n\n"), get("/"));
        assert_eq!(parse(b"HEAD / HTTP/1.1\r\n\r\nrest"), Request::Get { path: "/", head_only: true });
    }

    #[test]
    fn a_request_is_waited_for_byte_by_byte() {
        let whole = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), Request::Incomplete, "{end}");
        }
        assert_eq!(parse(whole), get("/metrics"));
    }

    #[test]
    fn what_is_refused() {
        let refused = |request: &[u8], status| assert_eq!(parse(request), Request::Refused(status), "{request:?}");
        refused(b"POST /metrics HTTP/1.1\r\n\r\n", Status::MethodNotAllowed);
        refused(b"get /metrics HTTP/1.1\r\n\r\n", Status::MethodNotAllowed);
        refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Status::VersionNotSupported);
        refused(b"hello\n", Status::BadRequest);
        refused(b"GET /metrics\r\n", Status::BadRequest);
        refused(b"GET  /metrics HTTP/1.1\r\n\r\n", Status::BadRequest);
        refused(b"GET /\x1b HTTP/1.1\r\n\r\n", Status::BadRequest);
        refused(b"\xff\xfe\n", Status::BadRequest);
        refused(&vec![b'x'; HEAD_BYTES + 1], Status::HeadTooLarge);
        refused(&[b"GET / HTTP/1.1\r\nX: ", vec![b'x'; HEAD_BYTES].as_slice()].concat(), Status::HeadTooLarge);
        refused(&vec![b'\n'; HEAD_BYTES + 1], Status::HeadTooLarge);
    }

    #[test]
    fn an_answer_is_whole() {
        let text = String::from_utf8(answer(Status::Ok, "ready\n", false)).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\n")
                && text
                    .ends_with("\r\nContent-Length: 6\r\nCache-Control: no-store\r\nConnection: close\r\n\r\nready\n")
        );
        let head = answer(Status::Ok, "ready\n", true);
        assert_eq!([&head, "ready\n".as_bytes()].concat(), text.into_bytes());
        let refusal = String::from_utf8(answer(Status::MethodNotAllowed, "no", false)).unwrap();
        assert!(refusal.contains("\r\nAllow: GET, HEAD\r\n\r\nno"));
    }
}
