//! Lanes under random use, and who is next.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::future::FutureExt;

use super::*;
use crate::error::Error;
use crate::ledger::Ledger;

/// xorshift: the same numbers for the same seed, everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

fn scheduler(places: usize) -> Scheduler {
    Scheduler::new(places, 2, Ledger::new(1000))
}

fn ticket(level: u32) -> Ticket {
    let deadline = Instant::now() + Duration::from_secs(600);
    Ticket {
        level,
        deadline,
        goes_on: false,
        peak_bytes: 0,
        memory: None,
        rows: 1,
        joins: None,
        inputs: Vec::new(),
        context: None,
        tenant: None,
    }
}

fn one_by_one() -> Policy {
    Policy { instances: Some(1), ..Policy::default() }
}

/// What comes of a request once it has waited.
async fn enter(lane: &Lane, ticket: Ticket, timeout: Option<Duration>) -> Result<Turn, Error> {
    match lane.enter(ticket, timeout)? {
        Entered::Started(turn) => Ok(turn),
        Entered::Waiting(waiting) => waiting.turn().await,
    }
}

async fn alone(lane: &Lane, ticket: Ticket) -> Place {
    match enter(lane, ticket, None).await.unwrap() {
        Turn::Alone { place, .. } => place,
        other => panic!("{other:?}"),
    }
}

/// Looks whether a future is ready; not held back by how much its task has done, as these tests are one long task.
macro_rules! poll {
    ($future:expr) => {
        futures::poll!(std::pin::pin!(tokio::task::unconstrained($future)))
    };
}

type Entering<'a> = Pin<Box<dyn Future<Output = Result<Turn, Error>> + 'a>>;

type Leading = (Vec<Member>, tokio::sync::oneshot::Receiver<Turn>);

/// Begins to run a turn, or gives up on leading others.
fn take(turn: Turn, gives_up: bool, held: &mut Vec<Place>, leading: &mut Vec<Leading>) {
    match turn {
        Turn::Alone { place, .. } => held.push(place),
        Turn::Lead { group, answer } if gives_up => drop((answer, group)),
        Turn::Lead { group, answer } => {
            let (place, members) = group.take().unwrap();
            assert!(members.len() > 1);
            held.push(place);
            leading.push((members, answer));
        }
        other => panic!("{other:?}"),
    }
}

/// Requests come, are given up at any moment, take their turns and end, in any order: nothing is lost, nobody waits
/// while there is a place, and in the end everything is as it was.
#[tokio::test]
async fn whatever_is_dropped_when_places_are_neither_lost_nor_given_twice() {
    for seed in 1..=300 {
        let mut random = Random(seed);
        let places = 1 + random.below(4);
        let scheduler = scheduler(places);
        let batching = Some(Batching { max_rows: 4, ..Batching::default() });
        let policies = [
            one_by_one(),
            Policy { instances: Some(3), ..Policy::default() },
            Policy { instances: Some(1 + random.below(2)), batching, ..Policy::default() },
        ];
        let lanes = policies.map(|policy| Lane::new(&scheduler, "m", policy));
        let mut waiting: Vec<Entering<'_>> = Vec::new();
        let mut held: Vec<Place> = Vec::new();
        let mut leading = Vec::new();
        for step in 0..200 {
            let coming = step < 150;
            match random.below(if coming { 4 } else { 3 }) {
                0 if !waiting.is_empty() => drop(waiting.swap_remove(random.below(waiting.len()))),
                1 if !held.is_empty() => drop(held.swap_remove(random.below(held.len()))),
                2 if !waiting.is_empty() => {
                    let at = random.below(waiting.len());
                    if let std::task::Poll::Ready(turn) = poll!(&mut waiting[at]) {
                        drop(waiting.swap_remove(at));
                        take(turn.unwrap(), random.below(2) == 0, &mut held, &mut leading);
                    }
                }
                3 => {
                    let joins = (random.below(4) > 0).then(|| [random.below(2) as u64].into());
                    let ticket = Ticket {
                        joins,
                        peak_bytes: random.below(600) as u64,
                        ..ticket(random.below(3) as u32)
                    };
                    let mut entering = enter(&lanes[random.below(3)], ticket, None).boxed_local();
                    // Whoever has not been polled is not there yet.
                    match poll!(&mut entering) {
                        std::task::Poll::Ready(turn) => {
                            take(turn.unwrap(), random.below(2) == 0, &mut held, &mut leading);
                        }
                        std::task::Poll::Pending => waiting.push(entering),
                    }
                }
                _ => {}
            }
            assert!(held.len() <= places + lanes.len(), "seed {seed}: {} places", held.len());
        }
        drop(held);
        // The members that somebody leads have their answer from him; all others get their turn.
        drop(leading);
        while !waiting.is_empty() {
            let before = waiting.len();
            let mut left = Vec::new();
            for mut entering in waiting {
                if poll!(&mut entering).is_pending() {
                    left.push(entering);
                }
            }
            waiting = left;
            assert!(waiting.len() < before, "seed {seed}: {before} wait for nothing: {:?}", scheduler.lock());
        }
        let machine = scheduler.lock();
        assert!(machine.is_idle(), "seed {seed}: {machine:?}");
    }
}

#[tokio::test]
async fn the_more_urgent_goes_first_then_the_earlier_deadline_then_the_earlier_arrival() {
    let scheduler = scheduler(1);
    let lane = Lane::new(&scheduler, "m", one_by_one());
    let first = alone(&lane, ticket(1)).await;
    let now = Instant::now() + Duration::from_secs(60);
    let at = |seconds| now + Duration::from_secs(seconds);
    let asked = [(2, 5), (1, 9), (2, 4), (1, 8), (2, 4)];
    let mut waiting: Vec<_> = asked
        .iter()
        .map(|&(level, seconds)| {
            let ticket = Ticket { deadline: at(seconds), ..ticket(level) };
            enter(&lane, ticket, None).boxed_local()
        })
        .collect();
    for entering in &mut waiting {
        assert!(poll!(entering).is_pending());
    }
    assert_eq!(lane.waiting(), 5);
    drop(first);
    let mut order = Vec::new();
    while order.len() < asked.len() {
        for (at, entering) in waiting.iter_mut().enumerate() {
            if !order.contains(&at) && poll!(entering).is_ready() {
                order.push(at);
                break;
            }
        }
    }
    assert_eq!(order, [3, 1, 2, 4, 0]);
}

/// Two lanes that always have work get compute time by their shares, however many requests each has waiting.
#[tokio::test]
async fn compute_time_is_shared_not_requests() {
    let scheduler = scheduler(12);
    let policy = |share| Policy { instances: Some(16), share: Some(share), ..Policy::default() };
    let lanes = [Lane::new(&scheduler, "slow", policy(1.0)), Lane::new(&scheduler, "fast", policy(2.0))];
    let took = [Duration::from_millis(10), Duration::from_millis(5)];
    let mut waiting: Vec<(usize, Entering<'_>)> = Vec::new();
    let mut held: std::collections::VecDeque<(usize, Place)> = std::collections::VecDeque::new();
    let mut had = [Duration::ZERO; 2];
    for round in 0..4000 {
        for (at, lane) in lanes.iter().enumerate() {
            // The slow one has five times as many clients.
            while waiting.iter().filter(|(of, _)| *of == at).count() < [50, 14][at] {
                waiting.push((at, enter(lane, ticket(1), None).boxed_local()));
            }
        }
        let mut left = Vec::new();
        for (at, mut entering) in waiting {
            match poll!(&mut entering) {
                std::task::Poll::Ready(turn) => match turn.unwrap() {
                    Turn::Alone { place, .. } => held.push_back((at, place)),
                    other => panic!("{other:?}"),
                },
                std::task::Poll::Pending => left.push((at, entering)),
            }
        }
        waiting = left;
        if let Some((at, mut place)) = held.pop_front() {
            place.worked(took[at], 1);
            if round > 100 {
                had[at] += took[at];
            }
        }
    }
    let ratio = had[1].as_secs_f64() / had[0].as_secs_f64();
    assert!((1.5..2.5).contains(&ratio), "{had:?}");
}

#[tokio::test]
async fn what_cannot_be_answered_in_time_is_refused_before_it_runs() {
    let scheduler = scheduler(1);
    let lane = Lane::new(&scheduler, "m", one_by_one());
    let mut first = alone(&lane, ticket(1)).await;
    let within = |seconds| Ticket { deadline: Instant::now() + Duration::from_secs(seconds), ..ticket(1) };
    // Nothing is known yet.
    let mut waiting = enter(&lane, within(5), None).boxed_local();
    assert!(poll!(&mut waiting).is_pending());
    first.worked(Duration::from_secs(20), 1);
    drop(first);
    let refused = |turn: Result<Turn, Error>| match turn {
        Err(Error::Refused(Refusal { why: Why::Late { wait, .. }, .. })) => wait,
        other => panic!("{other:?}"),
    };
    // At its turn.
    assert_eq!(refused(waiting.await), Duration::from_secs(20));
    // At the door; half of the estimate is trusted.
    let second = alone(&lane, within(15)).await;
    assert!(refused(enter(&lane, within(5), None).await) >= Duration::from_secs(20));
    let mut waiting = enter(&lane, within(15), None).boxed_local();
    assert!(poll!(&mut waiting).is_pending());
    drop(second);
    assert!(matches!(waiting.await, Ok(Turn::Alone { .. })));
}

#[tokio::test]
async fn memory_is_waited_for_or_refused_with_the_numbers() {
    let scheduler = scheduler(8);
    let lane = Lane::new(&scheduler, "m", Policy { instances: Some(8), ..Policy::default() });
    let needs = |peak_bytes| Ticket { peak_bytes, ..ticket(1) };
    let text = enter(&lane, needs(1001), None).await.unwrap_err().to_string();
    assert_eq!(text, "model `m` needs 1001 bytes for the request; the budget is 1000, 0 in use");
    let first = alone(&lane, needs(600)).await;
    let mut second = enter(&lane, needs(600), None).boxed_local();
    assert!(poll!(&mut second).is_pending());
    drop(first);
    assert!(matches!(second.await, Ok(Turn::Alone { .. })));
}

/// What a request waits for is not given to those who come later, however little they take.
#[tokio::test]
async fn memory_is_kept_for_who_waits_for_it() {
    let scheduler = scheduler(8);
    let policy = || Policy { instances: Some(8), ..Policy::default() };
    let [large, small] = ["large", "small"].map(|model| Lane::new(&scheduler, model, policy()));
    let needs = |peak_bytes| Ticket { peak_bytes, ..ticket(1) };
    for gives_up in [false, true] {
        let before = alone(&small, needs(300)).await;
        let mut first = enter(&large, needs(800), None).boxed_local();
        assert!(poll!(&mut first).is_pending());
        let mut later = enter(&small, needs(300), None).boxed_local();
        assert!(poll!(&mut later).is_pending());
        // Beside it there is room for so much.
        let third = Lane::new(&scheduler, "third", policy());
        let beside = alone(&third, needs(200)).await;
        let mut more = enter(&third, needs(1), None).boxed_local();
        assert!(poll!(&mut more).is_pending());
        if gives_up {
            drop(first);
            drop((later.now_or_never().unwrap(), more.now_or_never().unwrap()));
        } else {
            drop(before);
            // Also while those beside it run on.
            let place = first.now_or_never().unwrap().unwrap();
            assert!(poll!(&mut later).is_pending() && poll!(&mut more).is_pending());
            drop(place);
            drop((later.now_or_never().unwrap(), more.now_or_never().unwrap()));
        }
        drop(beside);
    }
    assert!(scheduler.lock().is_idle());
}

#[tokio::test]
async fn where_nothing_gives_memory_back_a_request_may_come_with_its_own() {
    let ledger = Ledger::new(1000);
    let scheduler = Scheduler::new(8, 2, ledger.clone());
    let lane = Lane::new(&scheduler, "m", Policy { per_second: Some(0.1), ..Policy::default() });
    let others = ledger.reserve(600).unwrap();
    let needs = Ticket { peak_bytes: 600, ..ticket(1) };
    let Ok(Turn::NoRoom(needs)) = enter(&lane, needs, None).await else { panic!("there is not so much") };
    assert!(scheduler.lock().is_idle());
    drop(others);
    // It counts against the rate once.
    let memory = Some(ledger.reserve(600).unwrap());
    let place = alone(&lane, Ticket { memory, ..*needs }).await;
    assert_eq!(ledger.usage(), (1000, 600));
    drop(place);
    assert_eq!(ledger.usage(), (1000, 0));
}

#[tokio::test]
async fn who_lacks_what_models_have_is_told_so_although_others_run() {
    let ledger = Ledger::new(1000);
    let scheduler = Scheduler::new(8, 2, ledger.clone());
    let [lane, other] = ["m", "other"].map(|model| Lane::new(&scheduler, model, Policy::default()));
    let needs = |peak_bytes| Ticket { peak_bytes, ..ticket(1) };
    let models = ledger.reserve(600).unwrap();
    let running = alone(&other, needs(100)).await;
    let turn = enter(&lane, needs(500), None).now_or_never();
    assert!(matches!(turn, Some(Ok(Turn::NoRoom(_)))), "{turn:?}");
    // Of what runs it waits for the end.
    let mut waiting = enter(&lane, needs(400), None).boxed_local();
    assert!(poll!(&mut waiting).is_pending());
    drop(running);
    assert!(matches!(waiting.await, Ok(Turn::Alone { .. })));
    assert!(scheduler.lock().is_idle());
    drop(models);
}

#[tokio::test]
async fn as_many_are_joined_as_compute_for_so_long() {
    let batching =
        Batching { max_rows: 64, max_compute: Some(Duration::from_millis(2)), ..Batching::default() };
    // What one request takes, and how many of ten run as one.
    for (each, joined) in
        [(None, 1), (Some(Duration::from_micros(500)), 4), (Some(Duration::from_secs(1)), 1)]
    {
        let scheduler = scheduler(1);
        let policy = Policy { batching: Some(batching.clone()), ..one_by_one() };
        let lane = Lane::new(&scheduler, "m", policy);
        let mut place = alone(&lane, ticket(1)).await;
        let of_ten = || Ticket { joins: Some(Box::from([1])), ..ticket(1) };
        let mut waiting: Vec<_> = (0..10).map(|_| enter(&lane, of_ten(), None).boxed_local()).collect();
        for waiting in &mut waiting {
            assert!(poll!(waiting).is_pending());
        }
        if let Some(each) = each {
            place.worked(each, 1);
        }
        drop(place);
        match (waiting.remove(0).await.unwrap(), joined) {
            (Turn::Alone { .. }, 1) => {}
            (Turn::Lead { group, .. }, _) => assert_eq!(group.take().unwrap().1.len(), joined),
            other => panic!("{each:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_costs_less_in_parts_runs_in_parts_one_after_the_other() {
    // More than four rows leave a cache.
    let costs: Vec<u32> = (1..=12).map(|rows| 200 + rows * if rows > 4 { 1600 } else { 800 }).collect();
    let sizes = Sizes::new(&costs, 12);
    // Sizes that a user prefers count in place of those.
    for (preferred_rows, parts) in [(vec![], [4, 4, 2]), (vec![3], [3, 3, 3])] {
        let max_delay = Duration::from_secs(600);
        let batching =
            Batching { max_rows: 12, preferred_rows, sizes: sizes.clone(), max_delay, max_compute: None };
        let scheduler = scheduler(1);
        let lane = Lane::new(&scheduler, "m", Policy { batching: Some(batching), ..one_by_one() });
        let first = alone(&lane, ticket(1)).await;
        let of_ten = || Ticket { joins: Some(Box::from([1])), ..ticket(1) };
        let mut waiting: Vec<_> = (0..10).map(|_| enter(&lane, of_ten(), None).boxed_local()).collect();
        for waiting in &mut waiting {
            assert!(poll!(waiting).is_pending());
        }
        let mut place = first;
        for part in parts {
            drop(place);
            let Turn::Lead { group, .. } = waiting.remove(0).await.unwrap() else { panic!("{part} at once") };
            let (next, members) = group.take().unwrap();
            assert_eq!(members.len(), part);
            waiting.drain(..part - 1);
            place = next;
        }
    }
}

#[tokio::test]
async fn enough_rows_end_the_wait_for_more() {
    let costs: Vec<u32> = (1..=8u32).map(|rows| 100 + rows.div_ceil(4) * 900).collect();
    let max_delay = Duration::from_secs(600);
    let batching = |sizes| Batching { max_rows: 8, max_delay, sizes, ..Batching::default() };
    for (sizes, enough) in [(Sizes::new(&costs, 8), 4), (Sizes::default(), 8)] {
        let scheduler = scheduler(2);
        let policy = Policy { batching: Some(batching(sizes)), ..Policy::default() };
        let lane = Lane::new(&scheduler, "m", policy);
        let _running = alone(&lane, ticket(1)).await;
        let alike = || Ticket { joins: Some(Box::from([1])), ..ticket(1) };
        let mut waiting: Vec<_> = (1..enough).map(|_| enter(&lane, alike(), None).boxed_local()).collect();
        for waiting in &mut waiting {
            assert!(poll!(waiting).is_pending());
        }
        let mut last = enter(&lane, alike(), None).boxed_local();
        assert!(poll!(&mut last).is_pending());
        let Turn::Lead { group, .. } = waiting.remove(0).await.unwrap() else { panic!("{enough} at once") };
        assert_eq!(group.take().unwrap().1.len(), enough);
    }
}

#[tokio::test]
async fn who_has_waited_long_enough_is_refused_or_goes_last() {
    let scheduler = scheduler(1);
    for after_timeout in [AfterTimeout::Refuse, AfterTimeout::GoLast] {
        let queue = QueuePolicy {
            timeout: Some(Duration::from_millis(50)),
            after_timeout,
            max_waiting: Some(2),
            allow_override: true,
        };
        let lane = Lane::new(&scheduler, "m", Policy { queue, ..one_by_one() });
        let place = alone(&lane, ticket(1)).await;
        let mut first = enter(&lane, ticket(1), None).boxed_local();
        let mut second = enter(&lane, ticket(1), Some(Duration::from_secs(100))).boxed_local();
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        let third = enter(&lane, ticket(1), None).await.unwrap_err().to_string();
        assert_eq!(third, "model `m` has 2 requests waiting already");
        tokio::time::sleep(Duration::from_millis(60)).await;
        match after_timeout {
            AfterTimeout::Refuse => {
                let refused = first.await.unwrap_err().to_string();
                assert_eq!(
                    refused,
                    "model `m` did not get to the request within the 50.0ms that it may wait"
                );
            }
            AfterTimeout::GoLast => {
                assert!(poll!(&mut first).is_pending());
                drop(place);
                assert!(poll!(&mut first).is_pending());
                drop(second.await.unwrap());
                drop(first.await.unwrap());
                continue;
            }
        }
        drop(place);
        drop(second.await.unwrap());
    }
}

#[tokio::test]
async fn without_levels_a_full_queue_is_full_for_every_priority() {
    let queue = QueuePolicy { max_waiting: Some(2), ..QueuePolicy::default() };
    for (levels, text) in [(0, Some("model `m` has 2 requests waiting already")), (9, None)] {
        let scheduler = scheduler(1);
        let lane = Lane::new(&scheduler, "m", Policy { queue: queue.clone(), levels, ..one_by_one() });
        let _place = alone(&lane, ticket(1)).await;
        let mut waiting = [3, 4].map(|level| enter(&lane, ticket(level), None).boxed_local());
        for entering in &mut waiting {
            assert!(poll!(entering).is_pending());
        }
        let mut third = enter(&lane, ticket(5), None).boxed_local();
        match poll!(&mut third) {
            std::task::Poll::Ready(refused) => assert_eq!(Some(&*refused.unwrap_err().to_string()), text),
            std::task::Poll::Pending => assert_eq!(text, None),
        }
    }
}

#[tokio::test]
async fn the_wait_that_is_expected_grows_with_the_queue() {
    let scheduler = scheduler(1);
    let lane = Lane::new(&scheduler, "m", one_by_one());
    assert_eq!(lane.expected_wait(), Some(Duration::ZERO), "it would start at once");
    let mut place = alone(&lane, ticket(1)).await;
    assert_eq!(lane.expected_wait(), None, "nothing was measured");
    place.worked(Duration::from_millis(1), 1);
    drop(place);
    let place = alone(&lane, ticket(1)).await;
    let one = lane.expected_wait().unwrap();
    assert!(one > Duration::ZERO);
    let mut waiting = [1, 2].map(|level| enter(&lane, ticket(level), None).boxed_local());
    for entering in &mut waiting {
        assert!(poll!(entering).is_pending());
    }
    let three = lane.expected_wait().unwrap();
    assert!(three.abs_diff(one * 3) < Duration::from_nanos(4), "one runs, and two wait: {three:?}, {one:?}");
    // The machine is full; a lane of nobody has a place beyond it.
    assert_eq!(Lane::new(&scheduler, "other", one_by_one()).expected_wait(), Some(Duration::ZERO));
    drop((waiting, place));
    assert_eq!(lane.expected_wait(), Some(Duration::ZERO));
}

#[tokio::test]
async fn a_rate_is_kept_and_its_hint_is_when_it_allows_one_more() {
    let scheduler = scheduler(1);
    let lane = Lane::new(&scheduler, "m", Policy { per_second: Some(0.1), ..Policy::default() });
    drop(alone(&lane, ticket(1)).await);
    match enter(&lane, ticket(1), None).await {
        Err(Error::Refused(refusal)) => {
            assert_eq!(refusal.why, Why::Rate { per_second: 0.1 });
            let after = refusal.retry_after;
            assert!(after > Duration::from_secs(8) && after <= Duration::from_secs(10), "{after:?}");
        }
        other => panic!("{other:?}"),
    }
}

// Here, where the macro is known.
mod sequences;
mod tenants;
