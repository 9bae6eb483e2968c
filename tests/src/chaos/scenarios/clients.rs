//! Clients that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::super::known::Question;
use super::super::random::Random;
use super::super::stage::{MODELS, Stage, Wishes};
use crate::digits;
use crate::vitals::Vitals;

/// At the same time.
const UNRULY: u64 = 32;
/// Connections on which little or nothing comes.
const HALF_OPEN: usize = 200;

pub(super) async fn disconnects(stage: &mut Stage) -> Result<()> {
    let dropped = Arc::new(AtomicU64::new(0));
    let mut unruly = JoinSet::new();
    for number in 0..UNRULY {
        let mut random = Random::new(stage.random.number());
        let (doors, questions, dropped) = (stage.doors.clone(), stage.questions.clone(), dropped.clone());
        unruly.spawn(async move {
            loop {
                let question = &questions[random.below(questions.len())];
                let patience = random.pause(0, 15);
                if number % 2 == 0 {
                    // One call is given up, or the connection with it.
                    let Ok(client) = ired_client::Client::connect(&doors.grpc).await else { continue };
                    for _ in 0..random.below(8) {
                        let _ = tokio::time::timeout(patience, client.infer(question.request.clone())).await;
                        dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = tokio::time::timeout(patience, client.infer(question.request.clone())).await;
                } else {
                    let Ok(mut stream) = TcpStream::connect(&doors.rest).await else { continue };
                    let request = question.as_rest();
                    let _ = stream.write_all(&request[..random.below(request.len()) + 1]).await;
                    tokio::time::sleep(patience).await;
                    if random.below(2) == 0 {
                        // Not in good order: the other side gets a reset.
                        let _ = stream.set_zero_linger();
                    }
                }
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep_until(stage.until.into()).await;
    unruly.shutdown().await;
    let dropped = dropped.load(Ordering::Relaxed);
    stage.notes.push(format!("{dropped} requests were given up by {UNRULY} clients"));
    ensure!(dropped > 0, "nobody has given up a request");
    Ok(())
}

pub(super) async fn slow_readers(stage: &mut Stage) -> Result<()> {
    let (pixels, _) = digits::samples()?;
    let rows: Vec<f32> = pixels.iter().copied().cycle().take(2048 * 64).collect();
    let request = digits::request(MODELS[0], &rows);
    let question = Question { request, answer: bytes::Bytes::new(), samples: 0..0 };
    // Many on one connection, whose answers are far more than any buffer between takes.
    let body = Arc::new(question.as_kept_rest());
    let read = Arc::new(AtomicU64::new(0));
    let mut slow = JoinSet::new();
    for _ in 0..UNRULY {
        let (address, body, read) = (stage.doors.rest.clone(), body.clone(), read.clone());
        slow.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
                let (mut from, mut to) = stream.split();
                let ask = async {
                    for _ in 0..64 {
                        if to.write_all(&body).await.is_err() {
                            break;
                        }
                    }
                };
                let sip = async {
                    let mut sip = [0; 512];
                    while let Ok(bytes @ 1..) = from.read(&mut sip).await {
                        read.fetch_add(bytes as u64, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::join!(ask, sip);
            }
        });
    }
    tokio::time::sleep_until(stage.until.into()).await;
    slow.shutdown().await;
    stage.notes.push(format!("{} bytes were read by {UNRULY} slow clients", read.load(Ordering::Relaxed)));
    Ok(())
}

/// A daemon that does not wait for long.
pub(super) fn short_patience() -> Wishes {
    let set = ["header_timeout_s=2", "body_timeout_s=2"];
    Wishes {
        arguments: set.iter().flat_map(|set| ["--set".to_owned(), (*set).to_owned()]).collect(),
        ..Wishes::default()
    }
}

pub(super) async fn half_open(stage: &mut Stage) -> Result<()> {
    let before = Vitals::of(stage.daemon()?)?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut kept = Vec::new();
    for number in 0..HALF_OPEN {
        let question = &stage.questions[stage.random.below(stage.questions.len())];
        let (address, whole) = match number % 3 {
            0 => (&stage.doors.grpc, preface.to_vec()),
            _ => (&stage.doors.rest, question.as_rest()),
        };
        let mut stream = TcpStream::connect(address).await?;
        // From nothing to all but the last byte.
        let part = stage.random.below(whole.len());
        stream.write_all(&whole[..part]).await?;
        kept.push(stream);
    }
    // The daemon gives them up by itself: they are all still held here.
    let given_up = async {
        for stream in &mut kept {
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
    };
    let patience = Duration::from_secs(120);
    ensure!(tokio::time::timeout(patience, given_up).await.is_ok(), "half-open connections are kept open");
    let after = Vitals::of(stage.daemon()?)?;
    stage.notes.push(format!(
        "{HALF_OPEN} half-open connections were given up; {} descriptors before, {} after",
        before.descriptors, after.descriptors
    ));
    drop(kept);
    Ok(())
}
