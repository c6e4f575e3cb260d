use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use super::*;
use crate::{Acquired, AskReply, acquire, ask};

/// A server whose program answers each question by its name, and how often it was asked.
struct Running {
    server: Arc<Server>,
    lock: Option<Lock>,
    port: u16,
    program: Option<JoinHandle<Vec<Topic>>>,
}

impl Running {
    fn start(folder: &Path, text: &'static [u8]) -> Self {
        let Acquired::Held(lock) = acquire(&[folder.to_owned()]).unwrap() else {
            panic!("it is held")
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let http = HttpOptions {
            ip: Ipv6Addr::UNSPECIFIED.into(),
            port,
            metrics_for_all: false,
        };
        let server = Arc::new(Server::start(&lock, Some(&http), || {}).unwrap());
        assert!(server.no_socket.is_none());
        let program = std::thread::spawn({
            let server = Arc::clone(&server);
            move || {
                let mut asked = Vec::new();
                while let Some(topic) = server.next_question() {
                    asked.push(topic);
                    server.answer(topic, 200, topic.name().as_bytes(), false);
                    server.answer(topic, 200, text, true);
                }
                asked
            }
        });
        Self {
            server,
            lock: Some(lock),
            port,
            program: Some(program),
        }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let limit = Duration::from_secs(8);
        socket.set_read_timeout(Some(limit)).unwrap();
        socket
    }

    fn get(&self, path: &str) -> String {
        let mut socket = self.connect();
        write!(socket, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    }

    fn end(mut self) -> Vec<Topic> {
        self.server.close();
        drop(self.lock.take());
        self.program.take().unwrap().join().unwrap()
    }
}

#[test]
fn answers() {
    let top = tempfile::tempdir().unwrap();
    let running = Running::start(top.path(), b" is well");
    let text = running.get("/healthz");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{head}");
    assert_eq!(body, "health is well");
    assert!(running.get("/metrics").contains("version=0.0.4"));
    assert!(running.get("/x").starts_with("HTTP/1.1 404 "));
    let mut socket = running.connect();
    // A second request on a connection is not answered, and does not take away the first answer.
    let request = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
    socket.write_all(request.repeat(1000).as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("\r\n\r\nreadiness is well"), "{text}");
    let folders = [top.path().to_owned()];
    for _ in 0..3 {
        let AskReply::Text(text) = ask(&folders).unwrap() else {
            panic!("nobody answers")
        };
        assert_eq!(text, "peers is well");
    }
    let asked = running.end();
    assert_eq!(
        asked.iter().filter(|topic| **topic == Topic::Peers).count(),
        1
    );
    assert!(matches!(ask(&folders).unwrap(), AskReply::Nobody));
}

#[test]
fn those_who_ask_for_nothing_make_room() {
    let top = tempfile::tempdir().unwrap();
    let running = Running::start(top.path(), b"");
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..300 {
        let mut socket = running.connect();
        socket.write_all(b"GET /healthz HTTP/1.1\r\nA: ").unwrap();
        silent.push(socket);
        if silent.len().is_multiple_of(50) {
            assert!(running.get("/healthz").starts_with("HTTP/1.1 200 "));
        }
    }
    // The last ones are told why; the first are gone.
    let mut text = String::new();
    silent
        .last_mut()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    running.end();
}

#[test]
fn answers_that_are_not_fetched_are_bounded_in_all() {
    static LARGE_TEXT: [u8; 16 << 20] = [b'x'; 16 << 20];
    let top = tempfile::tempdir().unwrap();
    let running = Running::start(top.path(), &LARGE_TEXT);
    let deaf = |count| -> Vec<TcpStream> {
        let one = |_| {
            let mut socket = running.connect();
            socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            socket
        };
        (0..count).map(one).collect()
    };
    let length = |mut socket: TcpStream| {
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes);
        bytes.len()
    };
    let (old, one_more) = (deaf(5), running.get("/metrics"));
    assert!(one_more.len() > LARGE_TEXT.len());
    std::thread::sleep(Duration::from_millis(1_200));
    // Another answer: together they would be too long.
    let new = deaf(5);
    assert!(running.get("/metrics").len() > LARGE_TEXT.len());
    assert!(
        old.into_iter()
            .all(|socket| length(socket) < LARGE_TEXT.len())
    );
    assert!(
        new.into_iter()
            .all(|socket| length(socket) > LARGE_TEXT.len())
    );
    running.end();
}
