//! A proxy between a client and a server on loopback that cuts its connections.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

/// A running proxy. It ends with the value.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// So many bytes from the client and so many from the server pass on one connection.
    limits: (u64, u64),
    cuts: AtomicUsize,
    stopping: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl CutProxy {
    /// Hands everything on to `port` on loopback, and cuts every connection when `up` bytes of the client or `down` bytes of
    /// the server have passed.
    ///
    /// # Errors
    ///
    /// Fails if no port can be had.
    pub fn start(port: u16, up: u64, down: u64) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            limits: (up, down),
            cuts: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if shared.stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    // A connection that cannot be made is cut at once.
                    let _failed = stream.and_then(|client| connect(&shared, client));
                }
            })
        };
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// `localhost:PORT`, the registry part of an image reference.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// How many connections were cut so far.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in lock(&self.shared.open).drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
        // Wakes the thread; if that fails, it has ended already.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(shared: &Arc<Shared>, client: TcpStream) -> std::io::Result<()> {
    let server = TcpStream::connect_timeout(&shared.upstream, Duration::from_secs(5))?;
    lock(&shared.open).extend([client.try_clone()?, server.try_clone()?]);
    let (up, down) = shared.limits;
    for (from, to, limit) in
        [(client.try_clone()?, server.try_clone()?, up), (server, client, down)]
    {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            if hand_on(&from, &to, limit) {
                shared.cuts.fetch_add(1, Ordering::SeqCst);
            }
            drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
        });
    }
    Ok(())
}

/// Copies until an end; whether that was the limit.
fn hand_on(mut from: &TcpStream, mut to: &TcpStream, limit: u64) -> bool {
    let mut left = limit;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        match from.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => return false,
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    return false;
                }
                left -= count as u64;
            }
        }
    }
    true
}
