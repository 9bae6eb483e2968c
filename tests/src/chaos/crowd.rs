//! Clients that ask all the time and hold each answer against the known one.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ired_client::{Client, ClientError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::known::{Question, output};
use super::random::Random;
use crate::daemon::Doors;

/// Clients, of which every fourth speaks REST.
pub(crate) const CLIENTS: usize = 64;
/// A request without an end for so long is lost; far beyond what the daemon allows one.
const PATIENCE: Duration = Duration::from_secs(180);
/// Stories that are kept of what went wrong.
const STORIES: usize = 8;

/// tonic's codes for "come again".
const UNAVAILABLE: i32 = 14;
const RESOURCE_EXHAUSTED: i32 = 8;

/// How requests ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: AtomicU64,
    /// Told to come again, or not let in.
    pub(crate) refused: AtomicU64,
    pub(crate) wrong: AtomicU64,
    /// Neither answered nor refused.
    pub(crate) lost: AtomicU64,
    /// Broke off when the daemon itself was killed.
    pub(crate) cut: AtomicU64,
    stories: Mutex<Vec<String>>,
}

impl Tally {
    fn tell(&self, story: String) {
        let mut stories = self.stories.lock().unwrap_or_else(PoisonError::into_inner);
        if stories.len() < STORIES {
            stories.push(story);
        }
    }

    pub(crate) fn stories(&self) -> Vec<String> {
        self.stories.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The clients of one daemon.
pub(crate) struct Crowd {
    pub(crate) tally: Arc<Tally>,
    asking: watch::Sender<bool>,
    /// One for each request that is under way.
    under_way: Arc<Semaphore>,
    /// The daemon may be killed: what breaks off then is nobody's fault.
    may_be_cut: Arc<AtomicBool>,
    /// Clients pause between their requests.
    calm: Arc<AtomicBool>,
    rounds: Arc<Vec<AtomicU64>>,
    clients: JoinSet<()>,
}

enum End {
    Answered,
    Refused,
    Wrong(String),
    Lost(String),
}

impl Crowd {
    /// Lets the clients begin.
    pub(crate) fn start(doors: &Doors, questions: Arc<Vec<Question>>, seed: u64) -> Self {
        let (asking, asked) = watch::channel(true);
        let mut crowd = Self {
            tally: Arc::default(),
            asking,
            under_way: Arc::new(Semaphore::new(CLIENTS)),
            may_be_cut: Arc::default(),
            calm: Arc::default(),
            rounds: Arc::new((0..CLIENTS).map(|_| AtomicU64::new(0)).collect()),
            clients: JoinSet::new(),
        };
        for number in 0..CLIENTS {
            let (doors, questions, mut asked) = (doors.clone(), questions.clone(), asked.clone());
            let (tally, under_way) = (crowd.tally.clone(), crowd.under_way.clone());
            let (may_be_cut, rounds) = (crowd.may_be_cut.clone(), crowd.rounds.clone());
            let calm = crowd.calm.clone();
            let mut random = Random::new(seed ^ (number as u64) << 32);
            crowd.clients.spawn(async move {
                let mut client = None;
                while asked.wait_for(|asking| *asking).await.is_ok() {
                    if calm.load(Ordering::Relaxed) {
                        tokio::time::sleep(random.pause(0, 200)).await;
                    }
                    let Ok(_under_way) = under_way.acquire().await else { return };
                    let question = &questions[random.below(questions.len())];
                    let asking = async {
                        match number % 4 {
                            0 => by_rest(&doors.rest, question).await,
                            _ => by_grpc(&mut client, &doors.grpc, question).await,
                        }
                    };
                    let end = tokio::time::timeout(PATIENCE, asking).await;
                    let end = end.unwrap_or_else(|_| End::Lost(format!("no end within {PATIENCE:?}")));
                    let count = match end {
                        End::Answered => {
                            rounds[number].fetch_add(1, Ordering::Relaxed);
                            &tally.answered
                        }
                        End::Refused => {
                            tokio::time::sleep(random.pause(5, 20)).await;
                            &tally.refused
                        }
                        End::Wrong(story) => {
                            tally.tell(format!("client {number}: {story}"));
                            &tally.wrong
                        }
                        End::Lost(_) if may_be_cut.load(Ordering::Relaxed) => {
                            tokio::time::sleep(random.pause(5, 20)).await;
                            &tally.cut
                        }
                        End::Lost(story) => {
                            tally.tell(format!("client {number}: {story}"));
                            &tally.lost
                        }
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        crowd
    }

    /// Whether what breaks off is to be expected.
    pub(crate) fn may_be_cut(&self, may: bool) {
        self.may_be_cut.store(may, Ordering::Relaxed);
    }

    /// Whether clients pause between their requests, so that the machine has time for other things.
    pub(crate) fn calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
    }

    /// Returns once nobody waits for an answer; nobody asks until [`Self::resume`].
    pub(crate) async fn pause(&self) -> Result<()> {
        self.asking.send_replace(false);
        let all = u32::try_from(CLIENTS)?;
        drop(self.under_way.acquire_many(all).await.context("the clients are gone")?);
        Ok(())
    }

    pub(crate) fn resume(&self) {
        self.asking.send_replace(true);
    }

    /// Returns once every client has had so many more answers.
    pub(crate) async fn answers(&mut self, more: u64) -> Result<()> {
        let goals: Vec<u64> = self.rounds.iter().map(|round| round.load(Ordering::Relaxed) + more).collect();
        let behind = || {
            self.rounds
                .iter()
                .zip(&goals)
                .filter(|(round, goal)| round.load(Ordering::Relaxed) < **goal)
                .count()
        };
        let waiting = tokio::time::timeout(2 * PATIENCE, async {
            while behind() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        if waiting.await.is_err() {
            bail!("{} of {CLIENTS} clients have not had {more} more answers; {:?}", behind(), self.tally);
        }
        Ok(())
    }
}

async fn by_grpc(client: &mut Option<Client>, address: &str, question: &Question) -> End {
    let connected = match client.take() {
        Some(connected) => connected,
        None => match Client::connect(address).await {
            Ok(connected) => connected,
            // Nobody listens: nothing was taken.
            Err(_) => return End::Refused,
        },
    };
    let result = connected.infer(question.request.clone()).await;
    *client = Some(connected);
    match result {
        Ok(response) => match output(&response) {
            Ok(found) => held_against(&found, question),
            Err(error) => End::Wrong(error.to_string()),
        },
        Err(ClientError::Call { code, message, .. }) => match code as i32 {
            UNAVAILABLE | RESOURCE_EXHAUSTED => End::Refused,
            _ => End::Lost(format!("gRPC: {code:?}: {message}")),
        },
        Err(error) => End::Lost(format!("gRPC: {error}")),
    }
}

async fn by_rest(address: &str, question: &Question) -> End {
    let Ok(mut stream) = TcpStream::connect(address).await else { return End::Refused };
    let mut answer = Vec::new();
    let sent = stream.write_all(&question.as_rest()).await;
    let read = stream.read_to_end(&mut answer).await;
    let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse::<u16>().ok());
    match status {
        Some(200) => match binary(&answer) {
            Some(found) => held_against(found, question),
            None => End::Lost(format!("REST: an answer that breaks off after {} bytes", answer.len())),
        },
        Some(429 | 503) => End::Refused,
        Some(status) => End::Lost(format!("REST: {status}: {}", String::from_utf8_lossy(&answer))),
        None => End::Lost(format!("REST: no answer: sent {sent:?}, read {read:?}")),
    }
}

/// The tensor in an answer that is all there.
fn binary(answer: &[u8]) -> Option<&[u8]> {
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..split]).ok()?.to_ascii_lowercase();
    let number = |name: &str| -> Option<usize> {
        head.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let body = &answer[split + 4..];
    let (length, json) = (number("content-length:")?, number("inference-header-content-length:")?);
    (body.len() == length).then(|| body.get(json..)).flatten()
}

fn held_against(found: &[u8], question: &Question) -> End {
    if found == question.answer {
        return End::Answered;
    }
    let request = &question.request;
    let at = found.iter().zip(&question.answer).position(|(found, known)| found != known);
    End::Wrong(format!(
        "a wrong answer of `{}` to {:?}: {} bytes, expected {}; the first that differs is {at:?}",
        request.model,
        request.inputs[0].shape,
        found.len(),
        question.answer.len()
    ))
}
