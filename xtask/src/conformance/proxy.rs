//! A network that fails on demand: carries bytes between a client and a server, or does not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Result;

/// What happens to what the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Network {
    Sound,
    /// Connections end as they begin.
    Refusing,
    /// Nothing comes any more.
    Silent,
    /// Connections end within an answer.
    Tearing,
    /// The last byte of each packet is another.
    Garbling,
    /// Each packet takes its time.
    Slow,
}

impl Network {
    pub(crate) const FAULTS: [Self; 5] =
        [Self::Refusing, Self::Silent, Self::Tearing, Self::Garbling, Self::Slow];
}

/// Listens until the process ends.
pub(crate) struct Proxy {
    pub(crate) address: String,
    network: Arc<AtomicU8>,
}

impl Proxy {
    pub(crate) fn start(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let network = Arc::new(AtomicU8::new(Network::Sound as u8));
        let shared = network.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.load(Ordering::Relaxed) == Network::Refusing as u8 {
                    continue;
                }
                // Its client sees the connection end.
                let _ = carry(client, &server, &shared);
            }
        });
        Ok(Self { address, network })
    }

    pub(crate) fn set(&self, network: Network) {
        self.network.store(network as u8, Ordering::Relaxed);
    }
}

fn carry(client: TcpStream, server: &str, network: &Arc<AtomicU8>) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let network = network.clone();
    std::thread::spawn(move || {
        let _ = answer(server, &client, &network);
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn answer(mut server: TcpStream, mut client: &TcpStream, network: &AtomicU8) -> std::io::Result<()> {
    let mut packet = [0; 16 << 10];
    loop {
        let bytes = server.read(&mut packet)?;
        if bytes == 0 {
            return Ok(());
        }
        let now = network.load(Ordering::Relaxed);
        let is = |network: Network| now == network as u8;
        if is(Network::Silent) {
            continue;
        }
        if is(Network::Refusing) {
            return Ok(());
        }
        if is(Network::Tearing) {
            return client.write_all(&packet[..bytes / 2]);
        }
        if is(Network::Garbling) {
            packet[bytes - 1] ^= 1;
        }
        if is(Network::Slow) {
            std::thread::sleep(Duration::from_millis(300));
        }
        client.write_all(&packet[..bytes])?;
    }
}
