//! What tenants get of a lane and of the machine. Where only the order counts, the clock is the turns' own.

use std::sync::Arc;

use super::super::backlog::{Backlog, Entry};
use super::super::charge::Charges;
use super::*;
use crate::tenants::{Limits, Listed, Tenant, Tenants};

/// Tenants `0`, `1` and so on, of these weights.
fn tenants(weights: &[f64]) -> Vec<Arc<Tenant>> {
    let limits = |weight: &f64| Limits { weight: *weight, ..Limits::default() };
    let entries: Vec<_> =
        weights.iter().enumerate().map(|(at, weight)| (at.to_string(), limits(weight))).collect();
    let listed = Listed::new(entries, &Arc::new(Tenants::default()));
    (0..weights.len()).map(|at| listed.find(&at.to_string())).collect()
}

fn of(tenant: &Arc<Tenant>, level: u32) -> Ticket {
    Ticket { tenant: Some(tenant.clone()), ..ticket(level) }
}

fn push(backlog: &mut Backlog, ticket: Ticket) {
    let (sender, _) = tokio::sync::oneshot::channel();
    backlog.insert(Entry { ticket, since: Instant::now(), sender, _waits: None });
}

/// Gives the next its turn, which takes so long; says whose it was.
fn turn(backlog: &mut Backlog, thought: Duration, took: Duration) -> Arc<Tenant> {
    let key = *backlog.next().unwrap().0;
    let entry = backlog.remove(&key).unwrap();
    let charges = Charges::of(&entry.ticket, thought);
    charges.serve(&mut backlog.shares, f64::INFINITY);
    charges.correct(&mut backlog.shares, took);
    entry.ticket.tenant.unwrap()
}

/// Whoever always has requests waiting gets service by his weight: never is one ahead of another by more than one
/// request of his own, however long each takes; and of equal ones each has had his part, give or take one request.
#[test]
fn each_of_those_who_always_wait_gets_his_weight() {
    for seed in 1..=200 {
        let mut random = Random(seed);
        let count = 2 + random.below(5);
        let is_equal = seed % 2 == 0;
        let weights: Vec<f64> =
            (0..count).map(|_| if is_equal { 1.0 } else { (1 + random.below(80)) as f64 / 10.0 }).collect();
        let (tenants, mut backlog) = (tenants(&weights), Backlog::default());
        let longest = 40;
        let mut had = vec![(0, 0.0); count];
        // Floods of different depths, which never end.
        for (at, tenant) in tenants.iter().enumerate() {
            (0..=at * at).for_each(|_| push(&mut backlog, of(tenant, 1)));
        }
        for turns in 1..=500 {
            let took = if is_equal { 7 } else { 1 + random.below(longest) };
            let (thought, took) = (Duration::from_millis(7), Duration::from_millis(took as u64));
            let served = turn(&mut backlog, thought, took);
            let at: usize = served.name().parse().unwrap();
            push(&mut backlog, of(&served, 1));
            had[at].0 += 1;
            had[at].1 += took.as_secs_f64() / weights[at];
            let least = had.iter().map(|(_, service)| *service).fold(f64::INFINITY, f64::min);
            for (at, (requests, service)) in had.iter().enumerate() {
                let one = longest as f64 / 1000.0 / weights[at];
                assert!(service - least <= one + 1e-9, "seed {seed}, turn {turns}: {had:?} of {weights:?}");
                let part = f64::from(turns) / count as f64;
                let is_fair = (f64::from(*requests) - part).abs() <= 1.0;
                assert!(is_fair || !is_equal, "seed {seed}, turn {turns}: {had:?}");
            }
        }
    }
}

#[test]
fn a_lone_request_waits_for_one_turn_of_each_other_at_most() {
    for seed in 1..=200 {
        let mut random = Random(seed);
        let weights: Vec<f64> = (0..2 + random.below(6)).map(|_| (1 + random.below(40)) as f64).collect();
        let (tenants, mut backlog) = (tenants(&weights), Backlog::default());
        let (quiet, floods) = tenants.split_last().unwrap();
        for tenant in floods {
            (0..50).for_each(|_| push(&mut backlog, of(tenant, 1)));
        }
        let ms = Duration::from_millis;
        for _ in 0..20 {
            for _ in 0..random.below(30) {
                let served = turn(&mut backlog, ms(5), ms(1 + random.below(20) as u64));
                push(&mut backlog, of(&served, 1));
            }
            push(&mut backlog, of(quiet, 1));
            let mut before = Vec::new();
            loop {
                let served = turn(&mut backlog, ms(5), ms(1 + random.below(20) as u64));
                if Arc::ptr_eq(&served, quiet) {
                    break;
                }
                push(&mut backlog, of(&served, 1));
                before.push(served.id());
            }
            let turns = before.len();
            before.sort_unstable();
            before.dedup();
            assert_eq!(before.len(), turns, "seed {seed}: somebody had two turns");
            // Quiet for so long that nothing counts against it.
            while backlog.shares.tag(quiet.id()) > backlog.shares.tag(u64::MAX) {
                let served = turn(&mut backlog, ms(5), ms(5));
                push(&mut backlog, of(&served, 1));
            }
        }
    }
}

#[test]
fn what_is_urgent_is_urgent_among_its_tenants_requests() {
    let (tenants, mut backlog) = (tenants(&[1.0, 1.0]), Backlog::default());
    let [a, b] = &tenants[..] else { panic!() };
    for ticket in [of(a, 3), of(a, 1), of(a, 2), of(b, 9), of(b, 8)] {
        push(&mut backlog, ticket);
    }
    let late = *backlog.next().unwrap().0;
    backlog.go_last(late);
    let mut order = Vec::new();
    while let Some((_, entry)) = backlog.next() {
        let level = entry.ticket.level;
        let served = turn(&mut backlog, Duration::from_millis(1), Duration::from_millis(1));
        order.push((served.name().to_owned(), level));
    }
    let order: Vec<(&str, u32)> = order.iter().map(|(name, level)| (name.as_str(), *level)).collect();
    assert_eq!(order, [("0", 2), ("1", 8), ("0", 3), ("1", 9), ("0", 1)]);
}

#[test]
fn requests_of_several_tenants_fill_a_batch_by_their_shares() {
    let (tenants, mut backlog) = (tenants(&[1.0, 1.0, 2.0]), Backlog::default());
    let joins = |tenant: &Arc<Tenant>| Ticket { joins: Some([7].into()), ..of(tenant, 1) };
    for tenant in &tenants {
        (0..20).for_each(|_| push(&mut backlog, joins(tenant)));
    }
    let (keys, rows) = backlog.joinable(8, usize::MAX, 0.001);
    assert_eq!(rows, 8);
    let of_each = tenants.iter().map(|tenant| keys.iter().filter(|key| key.tenant == tenant.id()).count());
    assert_eq!(of_each.collect::<Vec<_>>(), [2, 2, 4]);
    // What does not fit is passed over, and what is not alike.
    let (a, b) = (&tenants[0], &tenants[1]);
    let mut backlog = Backlog::default();
    push(&mut backlog, joins(a));
    push(&mut backlog, Ticket { rows: 9, ..joins(a) });
    push(&mut backlog, of(b, 1));
    push(&mut backlog, Ticket { rows: 5, ..joins(b) });
    let (keys, rows) = backlog.joinable(8, usize::MAX, 0.001);
    assert_eq!((keys.len(), rows), (2, 6));
}

#[test]
fn who_waits_is_before_a_request_by_as_many_as_get_their_turns() {
    let (tenants, mut backlog) = (tenants(&[1.0, 2.0, 1.0]), Backlog::default());
    let [a, b, c] = &tenants[..] else { panic!() };
    (0..100).for_each(|_| push(&mut backlog, of(b, 1)));
    push(&mut backlog, of(c, 1));
    assert_eq!(backlog.before(&of(a, 1)), 3, "two of one, one of the other");
    (0..4).for_each(|_| push(&mut backlog, of(a, 1)));
    assert_eq!(
        backlog.before(&Ticket { deadline: Instant::now() + Duration::from_secs(6000), ..of(a, 1) }),
        15
    );
    assert_eq!(backlog.before(&of(a, 0)), 3, "it overtakes its own");
    assert_eq!(backlog.len(), 105);
}

#[test]
fn of_tenants_that_have_left_nothing_is_left() {
    let (known, mut backlog) = (Arc::new(Tenants::default()), Backlog::default());
    let listed = Listed::new(Vec::new(), &known);
    // It is never idle.
    push(&mut backlog, of(listed.default_tenant(), 1));
    let ms = Duration::from_millis(1);
    for stranger in 0..5000 {
        for name in [format!("{stranger}"), format!("{stranger}, too")] {
            push(&mut backlog, of(&listed.find(&name), 1));
        }
        while backlog.len() > 1 {
            let served = turn(&mut backlog, ms, ms);
            if served.id() == crate::tenants::DEFAULT_ID {
                push(&mut backlog, of(&served, 1));
            }
        }
        assert!(backlog.tenants() <= 3 && backlog.len() <= 3, "{} tenants", backlog.tenants());
    }
}

/// A tenant that asks for many models gets no more of the machine than one that asks for one.
#[tokio::test]
async fn the_machine_is_shared_between_tenants_first() {
    let scheduler = scheduler(8);
    let policy = || Policy { instances: Some(8), ..Policy::default() };
    let tenants = tenants(&[1.0, 1.0]);
    let lanes: Vec<(usize, Lane)> =
        [0, 0, 0, 1].into_iter().map(|whose| (whose, Lane::new(&scheduler, "m", policy()))).collect();
    let mut waiting: Vec<(usize, Entering<'_>)> = Vec::new();
    let mut held: std::collections::VecDeque<(usize, Place)> = std::collections::VecDeque::new();
    let mut had = [0; 2];
    for round in 0..4000 {
        for (at, (whose, lane)) in lanes.iter().enumerate() {
            while waiting.iter().filter(|(of, _)| *of == at).count() < 10 {
                waiting.push((at, enter(lane, of(&tenants[*whose], 1), None).boxed_local()));
            }
        }
        let mut left = Vec::new();
        for (at, mut entering) in waiting {
            match poll!(&mut entering) {
                std::task::Poll::Ready(Ok(Turn::Alone { place, .. })) => held.push_back((lanes[at].0, place)),
                std::task::Poll::Ready(other) => panic!("{other:?}"),
                std::task::Poll::Pending => left.push((at, entering)),
            }
        }
        waiting = left;
        if let Some((whose, mut place)) = held.pop_front() {
            place.worked(Duration::from_millis(10), 1);
            had[whose] += u32::from(round > 100);
        }
    }
    let ratio = f64::from(had[1]) / f64::from(had[0]);
    assert!((0.9..1.1).contains(&ratio), "{had:?}");
    drop((waiting, held));
    assert!(scheduler.lock().is_idle());
}

/// Who gives up what runs has had its time all the same: of its model, of the machine, and the model of the machine.
#[tokio::test]
async fn what_was_given_up_is_charged_by_the_time_it_was_held() {
    let tenants = tenants(&[1.0, 1.0]);
    let [a, b] = [Some(&tenants[0]), Some(&tenants[1])];
    for (whose, others) in [((a, 0), (b, 0)), ((a, 0), (b, 1)), ((None, 0), (None, 1))] {
        let scheduler = scheduler(3);
        // Where tenants are told apart, it is not the models' shares that decide.
        let shares = if whose.0.is_some() { [1000.0, 1.0] } else { [1.0, 1.0] };
        let policy = |share| Policy { instances: Some(3), share: Some(share), ..Policy::default() };
        let lanes = shares.map(|share| Lane::new(&scheduler, "m", policy(share)));
        let enter = |(tenant, lane): (Option<&Arc<Tenant>>, usize)| {
            let ticket = Ticket { tenant: tenant.cloned(), ..ticket(1) };
            enter(&lanes[lane], ticket, None).boxed_local()
        };
        // They keep all places taken.
        let _stay = (enter(whose).await.unwrap(), enter(others).await.unwrap());
        let given_up = enter(whose).await.unwrap();
        let mut last = enter(whose);
        let mut waiting: Vec<Entering<'_>> = (0..5).map(|_| enter(others)).collect();
        for entering in std::iter::once(&mut last).chain(&mut waiting) {
            assert!(poll!(entering).is_pending());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(given_up);
        for next in waiting {
            let Turn::Alone { mut place, .. } = next.now_or_never().unwrap().unwrap() else { panic!() };
            assert!(poll!(&mut last).is_pending());
            place.worked(Duration::from_millis(1), 1);
        }
        drop(last.now_or_never().unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_tenant_that_has_too_many_waiting_is_refused_and_no_other() {
    let scheduler = scheduler(1);
    let lane = Lane::new(&scheduler, "m", one_by_one());
    let limits = Limits { waiting: Some(2), ..Limits::default() };
    let listed = Listed::new(vec![("a".to_owned(), limits)], &Arc::new(Tenants::default()));
    let [a, b] = ["a", "b"].map(|name| listed.find(name));
    let first = alone(&lane, of(&a, 1)).await;
    let mut waiting: Vec<Entering<'_>> =
        [&a, &a, &b].map(|tenant| enter(&lane, of(tenant, 1), None).boxed_local()).into();
    for entering in &mut waiting {
        assert!(poll!(entering).is_pending());
    }
    let refused = enter(&lane, of(&a, 1), None).await.unwrap_err().to_string();
    assert_eq!(refused, "tenant `a` has 2 requests waiting already");
    // Who gives up, and whose turn comes, waits no more.
    drop(waiting.remove(0));
    let mut again = enter(&lane, of(&a, 1), None).boxed_local();
    assert!(poll!(&mut again).is_pending());
    assert_eq!(listed.counted().map(|(_, usage)| usage.waiting()).sum::<usize>(), 3);
    drop(first);
    drop((waiting, again));
    assert_eq!(listed.counted().map(|(_, usage)| usage.waiting()).sum::<usize>(), 0);
    assert!(scheduler.lock().is_idle());
}
