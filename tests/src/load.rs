//! Load on a daemon: as much as it takes, or at a steady rate whatever the answers take.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ired_client::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::chaos::{Question, output};

/// Requests under way at once; one that is due beyond that waits, and that counts.
const UNDER_WAY: usize = 1 << 14;

/// Answers per second where each of these clients asks as soon as it has its answer.
///
/// # Errors
/// A request that is not answered, or wrongly.
pub async fn peak(clients: &[Client], questions: &Arc<Vec<Question>>, time: Duration) -> Result<f64> {
    let (begin, answered) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut asking = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let (client, questions, answered) = (client.clone(), questions.clone(), answered.clone());
        asking.spawn(async move {
            let mut at = number;
            while begin.elapsed() < time {
                ask(&client, &questions[at % questions.len()]).await?;
                answered.fetch_add(1, Ordering::Relaxed);
                at += 1;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    Ok(answered.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}

/// Asks one question and holds the answer against the known one.
///
/// # Errors
/// No answer, or a wrong one.
pub async fn ask(client: &Client, question: &Question) -> Result<()> {
    let response = client.infer(question.request.clone()).await.context("a request was not answered")?;
    ensure!(
        output(&response)? == question.answer,
        "a wrong answer to {:?}",
        question.request.inputs[0].shape
    );
    Ok(())
}

/// Starts what `ask` gives for each number from 0, so many a second, for a time; returns once all have ended. `ask` gets
/// the moment at which its request is due, which is not later for one that starts late.
///
/// # Errors
/// The first of them that fails.
pub async fn steadily<F>(rate: f64, time: Duration, mut start: impl FnMut(u64, Instant) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let mut asking = JoinSet::new();
    let begin = Instant::now();
    for number in 0.. {
        let due = begin + Duration::from_secs_f64(number as f64 / rate);
        if due >= begin + time {
            break;
        }
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        while let Some(ended) = asking.try_join_next() {
            ended??;
        }
        let place = under_way.clone().acquire_owned().await?;
        let ask = start(number, due);
        asking.spawn(async move {
            ask.await?;
            drop(place);
            anyhow::Ok(())
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    Ok(())
}

/// A value such that this share of all is not above it; they are sorted. 0 of none.
pub fn percentile(sorted: &[u32], share: f64) -> u32 {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// The one in the middle; NaN of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
