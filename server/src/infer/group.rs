//! The run of a group of joined requests, in a task of its own: no member's going away takes it from the others.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use ired_worker::{RuntimeFailure, Tensor};

use super::join::{join, split};
use crate::course::{Batch, Execution};
use crate::error::Error;
use crate::registry::Served;
use crate::schedule::{Group, Member, Place, Turn};
use crate::trace::SpanContext;

type Parts = Result<(Vec<Vec<Tensor>>, Execution), RuntimeFailure>;

/// Runs a group and tells every member its part.
pub(super) fn start(served: &Arc<Served>, mut group: Group) {
    let served = served.clone();
    tokio::spawn(async move {
        // Else its end puts the members back, for whom it is known then how many fit.
        if fits(&served, &mut group).await
            && let Some((place, members)) = group.take()
        {
            run(&served, place, members).await;
        }
    });
}

/// Gives a group the memory that its rows take together; `false` where there is not so much.
async fn fits(served: &Served, group: &mut Group) -> bool {
    let Some((leader, rows)) = group.leader() else { return false };
    let sizes = served.peaks.joined(leader.tenant.as_deref(), &leader.inputs, rows);
    if let Some(bytes) = served.peaks.find(&sizes) {
        return group.resize(bytes);
    }
    let (tenant, deadline) = (leader.tenant.clone(), leader.deadline);
    let ask = async {
        let using = served.hold(tenant.as_deref(), deadline).await?;
        Ok::<_, Error>(served.peak_bytes(using.runner(), tenant.as_deref(), sizes, deadline).await?)
    };
    // Why nobody says it, the members are told when it runs.
    ask.await.map_or(true, |bytes| group.resize(bytes))
}

/// Told when the module went although every member had hold of it: then it is being ended.
fn unavailable(error: &Error) -> RuntimeFailure {
    RuntimeFailure::Unavailable { reason: error.to_string() }
}

async fn run(served: &Served, place: Place, mut members: Vec<Member>) {
    let inputs: Vec<Vec<Tensor>> =
        members.iter_mut().map(|member| std::mem::take(&mut member.ticket.inputs)).collect();
    let rows: Vec<u64> = members.iter().map(|member| member.ticket.rows).collect();
    let latest = members.iter().map(|member| member.ticket.deadline).max().unwrap_or_else(Instant::now);
    let traced: Vec<SpanContext> = members.iter().filter_map(|member| member.ticket.context).collect();
    let batch = Batch {
        requests: members.len(),
        rows: rows.iter().sum(),
        traced: (!traced.is_empty()).then(|| traced.into()),
    };
    // Where processes are not shared, all are of one.
    let tenant = members.first().and_then(|member| member.ticket.tenant.clone());
    let work = async move {
        let using = served.hold(tenant.as_deref(), latest).await.map_err(|error| unavailable(&error))?;
        // Goes before the hold, whose end tells those who wait for memory.
        let mut place = place;
        let joined = join(&inputs, |bytes| using.runner().input_buffer(bytes));
        drop(inputs);
        let mut result = super::run(served, &using, joined, latest).await?;
        place.worked(result.timing.compute, batch.requests);
        served.stats.executed(served.inferences(batch.requests, batch.rows), &result.timing);
        let turn = place.since();
        let execution = Execution::of(&mut result, turn, turn, Some(batch));
        served.profiling.tell(&execution);
        Ok((split(result.outputs, &rows)?, execution))
    };
    // Once nobody is left the execution is cancelled.
    let gone = join_all(members.iter_mut().map(|member| member.answer.closed()));
    let parts: Parts = tokio::select! {
        parts = work => parts,
        _ = gone => return,
    };
    match parts {
        Ok((parts, execution)) => {
            for (member, outputs) in members.into_iter().zip(parts) {
                let execution = Execution { since: member.since, ..execution.clone() };
                // Who has gone needs no answer.
                let _ = member.answer.send(Turn::Answered(Ok((outputs, execution))));
            }
        }
        Err(failure) => {
            for member in members {
                let _ = member.answer.send(Turn::Answered(Err(failure.clone())));
            }
        }
    }
}
