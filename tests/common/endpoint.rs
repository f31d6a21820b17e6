//! An HTTP server that is asked who may connect, and that behaves as badly as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates;

/// How a question is answered.
pub enum Reply {
    /// With this status and body.
    Status(u16, String),
    /// With these bytes, whatever they are; then the connection is closed.
    Raw(Vec<u8>),
    /// As it should, but then the connection is closed without a word.
    ThenClose(String),
    /// Not before [`Endpoint::release`].
    Held(String),
}

impl Reply {
    pub fn json(text: &str) -> Reply {
        Reply::Status(200, text.into())
    }

    pub fn allow() -> Reply {
        Reply::json(r#"{"result": "allow"}"#)
    }

    pub fn deny() -> Reply {
        Reply::json(r#"{"result": "deny"}"#)
    }
}

/// The server; it goes on until the process ends.
pub struct Endpoint {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

type Handler = Box<dyn Fn(&serde_json::Value) -> Reply + Send + Sync>;

struct Shared {
    handler: Handler,
    tls: Option<Arc<ServerConfig>>,
    questions: Mutex<Vec<serde_json::Value>>,
    connections: AtomicUsize,
    /// Questions that are being answered, and the most that ever were at a time.
    busy: Mutex<(usize, usize)>,
    released: (Mutex<bool>, Condvar),
}

impl Endpoint {
    pub fn start(handler: impl Fn(&serde_json::Value) -> Reply + Send + Sync + 'static) -> Endpoint {
        Endpoint::start_on(([127, 0, 0, 1], 0).into(), None, Box::new(handler))
    }

    /// With the certificate of this name.
    pub fn start_tls(name: &str, handler: impl Fn(&serde_json::Value) -> Reply + Send + Sync + 'static) -> Endpoint {
        let chain = certificates::read(&format!("{name}.pem"));
        let key = PrivateKeyDer::from_pem_file(certificates::path(&format!("{name}.key"))).expect("a key");
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key of the certificate");
        Endpoint::start_on(([127, 0, 0, 1], 0).into(), Some(Arc::new(config)), Box::new(handler))
    }

    /// On an address where another one was.
    pub fn start_at(
        addr: SocketAddr,
        handler: impl Fn(&serde_json::Value) -> Reply + Send + Sync + 'static,
    ) -> Endpoint {
        Endpoint::start_on(addr, None, Box::new(handler))
    }

    fn start_on(addr: SocketAddr, tls: Option<Arc<ServerConfig>>, handler: Handler) -> Endpoint {
        let listener = TcpListener::bind(addr).expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            handler,
            tls,
            questions: Mutex::default(),
            connections: AtomicUsize::new(0),
            busy: Mutex::default(),
            released: Default::default(),
        });
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&for_thread);
                shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    let _ = socket.set_read_timeout(Some(Duration::from_secs(60)));
                    match &shared.tls {
                        None => shared.serve(socket),
                        Some(tls) => {
                            let session = ServerConnection::new(Arc::clone(tls)).expect("a session");
                            shared.serve(StreamOwned::new(session, socket));
                        }
                    }
                });
            }
        });
        Endpoint { addr, shared }
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/auth?for=mqtt", self.addr)
    }

    /// What has been asked so far.
    pub fn questions(&self) -> Vec<serde_json::Value> {
        self.shared.questions.lock().expect("not poisoned").clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most questions that were answered at a time.
    pub fn most_at_a_time(&self) -> usize {
        self.shared.busy.lock().expect("not poisoned").1
    }

    /// Lets those go that are held.
    pub fn release(&self) {
        *self.shared.released.0.lock().expect("not poisoned") = true;
        self.shared.released.1.notify_all();
    }
}

impl Shared {
    /// Answers until the client or a reply closes.
    fn serve(&self, mut stream: impl Read + Write) {
        while let Some(question) = read_question(&mut stream) {
            self.questions.lock().expect("not poisoned").push(question.clone());
            self.count(1);
            let reply = (self.handler)(&question);
            let goes_on = self.reply(&mut stream, reply);
            self.count(-1);
            if !goes_on {
                return;
            }
        }
    }

    fn count(&self, change: isize) {
        let mut busy = self.busy.lock().expect("not poisoned");
        busy.0 = busy.0.saturating_add_signed(change);
        busy.1 = busy.1.max(busy.0);
    }

    fn reply(&self, stream: &mut impl Write, reply: Reply) -> bool {
        let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (bytes, goes_on) = match reply {
            Reply::Status(204, _) => (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), true),
            Reply::Status(status, body) => {
                let head = format!(
                    "HTTP/1.1 {status} X\r\nLocation: /other\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                ((head + &body).into_bytes(), true)
            }
            Reply::Raw(bytes) => (bytes, false),
            Reply::ThenClose(body) => (ok(&body).into_bytes(), false),
            Reply::Held(body) => {
                let released = self.released.0.lock().expect("not poisoned");
                drop(
                    self.released
                        .1
                        .wait_while(released, |released| !*released)
                        .expect("not poisoned"),
                );
                (ok(&body).into_bytes(), true)
            }
        };
        stream.write_all(&bytes).and_then(|()| stream.flush()).is_ok() && goes_on
    }
}

/// The body of a POST, which must be as it was agreed.
fn read_question(stream: &mut (impl Read + Write)) -> Option<serde_json::Value> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    assert!(head.starts_with("POST /auth?for=mqtt HTTP/1.1\r\n"), "{head}");
    assert_eq!(super::header(&head, "content-type"), Some("application/json"), "{head}");
    assert!(super::header(&head, "host").is_some(), "{head}");
    let length: usize = super::header(&head, "content-length")?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).expect("JSON"))
}
