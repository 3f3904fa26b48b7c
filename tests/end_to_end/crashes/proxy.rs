//! A TCP proxy between client and server that delays what passes and cuts connections.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often an idle direction looks whether the proxy is to end.
const LOOK: Duration = Duration::from_millis(100);

pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    /// Connections so far.
    connections: AtomicU64,
    delay: Duration,
    open: Mutex<Vec<TcpStream>>,
    copying: Mutex<Vec<JoinHandle<()>>>,
}

impl Proxy {
    /// Listens on a free port of the loopback, and passes on to `server` with a delay.
    pub fn start(server: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            delay,
            open: Mutex::new(Vec::new()),
            copying: Mutex::new(Vec::new()),
        });
        let accepter = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&listener, server, &accepter));
        Proxy { address, shared, accepting: Some(accepting) }
    }

    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts everything that passes, in the middle of whatever it is.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().expect("no panic").drain(..) {
            // The peers may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        let _ = self.accepting.take().map(JoinHandle::join);
        for copying in self.shared.copying.lock().expect("no panic").drain(..) {
            let _ = copying.join();
        }
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    for near in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let (Ok(near), Ok(far)) = (near, TcpStream::connect(server)) else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        for (from, to) in [(&near, &far), (&far, &near)] {
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone()) else {
                continue;
            };
            let copier = Arc::clone(shared);
            let copying = std::thread::spawn(move || copy(from, to, &copier));
            shared.open.lock().expect("no panic").push(kept);
            shared.copying.lock().expect("no panic").push(copying);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    from.set_read_timeout(Some(LOOK)).expect("a timeout can be set");
    let mut buffer = vec![0; 16 << 10];
    while !shared.stop.load(Ordering::SeqCst) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                // The network's own delay, not a wait for anything.
                std::thread::sleep(shared.delay);
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    // Already closed is as good.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
