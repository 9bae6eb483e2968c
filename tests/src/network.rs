//! A network between HTTP clients and a server that fails on demand: carries bytes, or does not, or others.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// What comes of a request where the server fails.
const FAILURE: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// What happens to what is asked and said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Network {
    Sound,
    /// Connections end as they begin.
    Refusing,
    /// Nothing comes any more.
    Silent,
    /// Every answer is an error of the server's own.
    Failing,
    /// Connections end within an answer.
    Tearing,
    /// Who asks for an object gets the one that was asked for before: whole, and not what it should be.
    Mixing,
    /// The last byte of each packet is another.
    Garbling,
    /// Each packet takes its time.
    Slow,
}

impl Network {
    pub const FAULTS: [Self; 7] = [
        Self::Refusing,
        Self::Silent,
        Self::Failing,
        Self::Tearing,
        Self::Mixing,
        Self::Garbling,
        Self::Slow,
    ];
}

/// Stands before a server, until the process ends.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    network: AtomicU8,
    /// Paths of objects that were asked for last, by their length.
    asked: Mutex<BTreeMap<usize, Vec<u8>>>,
}

impl Proxy {
    /// Stands before the server at `server`, an address.
    pub fn start(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let network = AtomicU8::new(Network::Sound as u8);
        let shared = Arc::new(Shared { network, asked: Mutex::default() });
        let proxy = Self { address, shared: shared.clone() };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !shared.is(Network::Refusing) {
                    // Where the server cannot be reached, its client sees the connection end.
                    let _ = carry(client, &server, &shared);
                }
            }
        });
        Ok(proxy)
    }

    pub fn set(&self, network: Network) {
        self.shared.network.store(network as u8, Ordering::Relaxed);
    }
}

impl Shared {
    fn is(&self, network: Network) -> bool {
        self.network.load(Ordering::Relaxed) == network as u8
    }

    /// Has a request for an object ask for the last one whose name was as long, so that nothing else changes.
    fn mix(&self, request: &mut [u8]) {
        let Some(rest) = request.strip_prefix(b"GET ") else { return };
        let Some(length) = rest.iter().position(|byte| *byte == b' ') else { return };
        let path = &mut request[4..4 + length];
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = asked.insert(length, path.to_vec())
            && self.is(Network::Mixing)
        {
            path.copy_from_slice(&before);
        }
    }
}

fn carry(client: TcpStream, server: &str, shared: &Arc<Shared>) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (from_client, to_server, asking) = (client.try_clone()?, server.try_clone()?, shared.clone());
    std::thread::spawn(move || {
        let _ = ask(&from_client, &to_server, &asking);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let shared = shared.clone();
    std::thread::spawn(move || {
        let _ = answer(&server, &client, &shared);
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn ask(mut client: &TcpStream, mut server: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut packet = [0; 16 << 10];
    loop {
        let bytes = client.read(&mut packet)?;
        if bytes == 0 {
            return Ok(());
        }
        if shared.is(Network::Failing) {
            return client.write_all(FAILURE);
        }
        shared.mix(&mut packet[..bytes]);
        server.write_all(&packet[..bytes])?;
    }
}

fn answer(mut server: &TcpStream, mut client: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut packet = [0; 16 << 10];
    loop {
        let bytes = server.read(&mut packet)?;
        if bytes == 0 || shared.is(Network::Refusing) {
            return Ok(());
        }
        if shared.is(Network::Silent) {
            continue;
        }
        if shared.is(Network::Tearing) {
            return client.write_all(&packet[..bytes / 2]);
        }
        if shared.is(Network::Garbling) {
            packet[bytes - 1] ^= 1;
        }
        if shared.is(Network::Slow) {
            std::thread::sleep(Duration::from_millis(300));
        }
        client.write_all(&packet[..bytes])?;
    }
}
