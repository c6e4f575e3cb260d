//! The agent on its host, behind a handle: the lock, and the server where it answers.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use host::{Acquired, AskReply, HttpOptions, Lock, Server, Topic};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::handles::STATIONS;

/// See the module.
pub struct Station {
    lock: Mutex<Option<Lock>>,
    server: OnceLock<Server>,
}

/// What came of an attempt to hold the lock.
#[derive(Serialize)]
#[serde(untagged)]
enum Held {
    #[serde(rename_all = "camelCase")]
    Here {
        handle: u32,
        path: String,
        repaired: bool,
    },
    #[serde(rename_all = "camelCase")]
    Elsewhere { pid: Option<u32>, is_held: bool },
}

/// Takes this network namespace's lock in one of the folders of a JSON array.
pub fn hold(json: &[u8]) -> Result<Answer, String> {
    let held = match host::acquire(&folders(json)?).map_err(|e| e.to_string())? {
        Acquired::By { pid } => Held::Elsewhere { pid, is_held: true },
        Acquired::Held(lock) => {
            let (path, repaired) = (lock.path().display().to_string(), lock.repaired());
            let station = Station {
                lock: Mutex::new(Some(lock)),
                server: OnceLock::new(),
            };
            let handle = STATIONS.insert(station);
            Held::Here {
                handle,
                path,
                repaired,
            }
        }
    };
    Answer::ok(&held)
}

fn folders(json: &[u8]) -> Result<Vec<PathBuf>, String> {
    serde_json::from_slice(json).map_err(|e| format!("the folders are not understood: {e}"))
}

/// Where HTTP is answered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http {
    ip: IpAddr,
    port: u16,
    metrics_for_all: bool,
}

/// What came of an attempt to serve.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Served {
    /// Why it cannot listen over HTTP.
    refused: Option<Refused>,
    /// Why `flanneld peers` will not work.
    no_socket: Option<String>,
}

#[derive(Serialize)]
struct Refused {
    reason: &'static str,
    message: String,
}

impl Refused {
    fn of(error: &io::Error) -> Self {
        let reason = match error.kind() {
            ErrorKind::AddrInUse => "inUse",
            ErrorKind::AddrNotAvailable => "notAvailable",
            ErrorKind::PermissionDenied => "denied",
            _ => "other",
        };
        Self {
            reason,
            message: error.to_string(),
        }
    }
}

impl Station {
    /// Answers on the status socket, and over HTTP by options in JSON, or null.
    pub fn serve(&self, json: &[u8]) -> Result<Answer, String> {
        let http: Option<Http> = serde_json::from_slice(json)
            .map_err(|e| format!("the address is not understood: {e}"))?;
        let http = http.map(|http| HttpOptions {
            ip: http.ip,
            port: http.port,
            metrics_for_all: http.metrics_for_all,
        });
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = lock.as_ref().ok_or("the lock is not held")?;
        let mut served = Served {
            refused: None,
            no_socket: None,
        };
        match Server::start(lock, http.as_ref(), crate::release_memory) {
            Ok(server) => {
                served.no_socket = server.no_socket.as_ref().map(ToString::to_string);
                self.server
                    .set(server)
                    .map_err(|_| "it is served already".to_string())?;
            }
            Err(error) => served.refused = Some(Refused::of(&error.0)),
        }
        Answer::ok(&served)
    }

    /// Waits for the next question; none where nothing is served any more.
    pub fn next_question(&self) -> Option<Topic> {
        self.server.get()?.next_question()
    }

    /// Adds a part to an answer. Topics are numbered in the order of [`host::TOPICS`].
    pub fn answer(&self, topic: u32, status: u32, part: &[u8], last: bool) {
        let topic = host::TOPICS.get(topic as usize);
        if let (Some(&topic), Some(server)) = (topic, self.server.get()) {
            let status = u16::try_from(status).unwrap_or(500);
            server.answer(topic, status, part, last);
        }
    }

    /// Stops to serve and gives the lock back.
    pub fn release(&self) {
        if let Some(server) = self.server.get() {
            server.close();
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lock.take());
    }
}

/// Asks the agent that holds the lock in one of the folders of a JSON array.
pub fn ask(json: &[u8]) -> Result<Answer, String> {
    match host::ask(&folders(json)?).map_err(|e| e.to_string())? {
        AskReply::Text(text) => Answer::ok(&Some(text)),
        AskReply::Nobody => Answer::ok(&None::<String>),
    }
}

/// A state for the service manager.
#[derive(Deserialize)]
struct Notification {
    target: PathBuf,
    state: String,
}

/// Tells the service manager a state, by a `Notification` in JSON.
pub fn notify(json: &[u8]) -> Result<Answer, String> {
    let Notification { target, state } =
        serde_json::from_slice(json).map_err(|e| format!("the state is not understood: {e}"))?;
    host::notify(target.as_os_str(), state.as_bytes()).map_err(|e| e.to_string())?;
    Answer::ok(&())
}
