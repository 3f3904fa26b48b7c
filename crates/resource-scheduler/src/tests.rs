//! The scheduler against its own invariants: conservation, fencing, and who is given what.

use model::network::Reach;
use model::{ByteSize, Permits, Sealing};

use super::*;

const NOTHING: Permits = Permits { network: Reach::Nothing, display: false, sealing: Sealing::Off };
const CLASS: Resources = Resources { cpus: 1, memory: ByteSize(100), disk: ByteSize(100), needs: NOTHING };
const ROOM: Capacity =
    Capacity { cpus: 8, memory: ByteSize(10_000), disk: ByteSize(10_000), permits: NOTHING };

fn client(number: u8) -> ClientId {
    ClientId([number; 16])
}

fn job(id: u64, user: &str, total: u64) -> NewJob {
    NewJob {
        id: JobId(id),
        user: user.parse().expect("valid"),
        class: CLASS,
        total,
        attempts: 3,
        cursor: 0,
        unfinished: Vec::new(),
        failures: Vec::new(),
    }
}

fn scheduler(jobs: Vec<NewJob>) -> Scheduler {
    let mut scheduler = Scheduler::new(Config::default(), Fence(1));
    for job in jobs {
        scheduler.add_job(job);
    }
    scheduler
}

/// An offer of a client that has the replies to all its earlier polls.
fn offer(client: ClientId, seq: u64, capacity: Capacity, most: usize) -> Offer {
    Offer { client, seq, answered: seq - 1, capacity, most }
}

fn exit() -> FailureReason {
    FailureReason::ExitCode { code: 1 }
}

#[test]
fn a_client_gets_what_fits_and_no_more() {
    let mut scheduler = scheduler(vec![job(1, "a", 100)]);
    let capacity = Capacity { cpus: 8, memory: ByteSize(350), disk: ByteSize(10_000), permits: NOTHING };
    assert_eq!(scheduler.assign(Timestamp(0), &offer(client(1), 1, capacity, 10)).len(), 3);
    assert_eq!(scheduler.assign(Timestamp(0), &offer(client(1), 2, ROOM, 2)).len(), 2);
    assert_eq!((scheduler.running_count(JobId(1)), scheduler.cursor(JobId(1))), (5, Some(5)));
}

#[test]
fn leases_on_their_way_take_room_that_the_client_does_not_know_to_be_taken() {
    let mut scheduler = scheduler(vec![job(1, "a", 100)]);
    let two = Capacity { cpus: 2, ..ROOM };
    assert_eq!(scheduler.assign(Timestamp(0), &offer(client(1), 1, two, 9)).len(), 2);
    let overlapping = Offer { answered: 0, ..offer(client(1), 2, two, 9) };
    assert_eq!(scheduler.assign(Timestamp(0), &overlapping), []);
    assert_eq!(scheduler.assign(Timestamp(0), &offer(client(1), 3, two, 9)).len(), 2);
}

#[test]
fn users_share_whatever_the_size_of_their_jobs() {
    let mut scheduler = scheduler(vec![job(1, "big", 1_000), job(2, "small", 3)]);
    let granted = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 6));
    let of_small = granted.iter().filter(|lease| lease.subjob.job == JobId(2)).count();
    assert_eq!(of_small, 3);
}

#[test]
fn a_job_that_no_client_can_run_does_not_hold_up_others() {
    let mut huge = job(1, "a", 5);
    huge.class.memory = ByteSize::gib(999);
    let mut scheduler = scheduler(vec![huge, job(2, "a", 1)]);
    let granted = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 6));
    assert_eq!(granted.iter().map(|lease| lease.subjob.job).collect::<Vec<_>>(), [JobId(2)]);
}

#[test]
fn a_failed_subjob_goes_to_another_client_if_there_is_one() {
    let mut scheduler = scheduler(vec![job(1, "a", 1)]);
    let lease = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 1)).remove(0);
    scheduler.assign(Timestamp(0), &offer(client(2), 1, ROOM, 1));
    let ended = scheduler.fail_reported(lease.fence, client(1), exit()).expect("live");
    assert_eq!(ended.verdict, Verdict::Again);
    assert_eq!(scheduler.assign(Timestamp(0), &offer(client(1), 2, ROOM, 1)), []);
    let again = scheduler.assign(Timestamp(0), &offer(client(2), 2, ROOM, 1)).remove(0);
    assert_eq!((again.subjob, again.attempt), (lease.subjob, 2));
    assert!(again.fence > lease.fence);
}

#[test]
fn a_failed_subjob_does_not_wait_for_clients_that_are_gone_but_for_busy_ones() {
    let mut scheduler = scheduler(vec![job(1, "a", 1)]);
    scheduler.assign(Timestamp(0), &offer(client(2), 1, ROOM, 0));
    let lease = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 1)).remove(0);
    scheduler.fail_reported(lease.fence, client(1), exit()).expect("live");
    let full = Capacity { cpus: 0, ..ROOM };
    scheduler.assign(Timestamp(0), &offer(client(2), 2, full, 1));
    assert_eq!(scheduler.assign(Timestamp(0), &offer(client(1), 2, ROOM, 1)), [], "the other is busy");
    scheduler.contact(Timestamp(90_000), client(1), 2, &[]);
    scheduler.expire(Timestamp(120_000));
    let again = scheduler.assign(Timestamp(120_000), &offer(client(1), 3, ROOM, 1));
    assert_eq!(again.len(), 1, "the other is gone");
}

#[test]
fn on_a_grid_of_one_client_it_goes_to_the_same_and_fails_after_its_attempts() {
    let mut scheduler = scheduler(vec![job(1, "a", 1)]);
    for attempt in 1..=3 {
        let lease = scheduler.assign(Timestamp(0), &offer(client(1), u64::from(attempt), ROOM, 1)).remove(0);
        assert_eq!(lease.attempt, attempt);
        let verdict = scheduler.fail_reported(lease.fence, client(1), exit()).expect("live").verdict;
        assert_eq!(verdict, if attempt == 3 { Verdict::Failed } else { Verdict::Again });
    }
    assert!(!scheduler.has_waiting());
}

#[test]
fn nothing_reported_under_a_dead_number_counts() {
    let mut scheduler = scheduler(vec![job(1, "a", 1)]);
    let lease = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 1)).remove(0);
    assert_eq!(scheduler.succeed(lease.fence, client(2)), None, "another client's lease");
    assert_eq!(scheduler.expire(Timestamp(120_000)).len(), 1);
    let second = scheduler.assign(Timestamp(120_000), &offer(client(2), 1, ROOM, 1)).remove(0);
    assert_eq!(scheduler.deliverable(lease.fence, client(1)), None, "given to another meanwhile");
    assert_eq!(scheduler.succeed(lease.fence, client(1)), None, "given to another meanwhile");
    assert!(scheduler.succeed(second.fence, client(2)).is_some());
    assert_eq!(scheduler.succeed(second.fence, client(2)), None, "already counted");
}

#[test]
fn a_laptop_that_was_away_may_deliver_if_nobody_took_over() {
    let mut scheduler = scheduler(vec![job(1, "a", 1)]);
    let lease = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 1)).remove(0);
    scheduler.expire(Timestamp(120_000));
    assert_eq!(scheduler.deliverable(lease.fence, client(1)), Some(lease.subjob));
    assert_eq!(scheduler.deliverable(lease.fence, client(2)), None);
    let held = scheduler.contact(Timestamp(500_000), client(1), 2, &[lease.fence]);
    assert_eq!(held.revived, std::slice::from_ref(&lease));
    assert_eq!(scheduler.assign(Timestamp(500_000), &offer(client(2), 1, ROOM, 1)), []);
    assert_eq!(scheduler.succeed(lease.fence, client(1)), Some(lease));
}

#[test]
fn a_server_that_stood_still_blames_no_client_for_it() {
    let mut scheduler = scheduler(vec![job(1, "a", 1)]);
    scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 1));
    scheduler.excuse_silence(Timestamp(900_000));
    assert_eq!(scheduler.expire(Timestamp(900_000)), []);
    assert_eq!(scheduler.expire(Timestamp(1_020_000)).len(), 1);
}

#[test]
fn a_restarted_client_gives_its_subjobs_back_at_once() {
    let mut scheduler = scheduler(vec![job(1, "a", 1)]);
    let lease = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 1)).remove(0);
    assert_eq!(scheduler.contact(Timestamp(1), client(1), 0, &[]), Held::default(), "still on its way");
    assert_eq!(scheduler.granted_to(client(1), 1), std::slice::from_ref(&lease));
    let held = scheduler.contact(Timestamp(2), client(1), 1, &[]);
    assert_eq!(held.lost.iter().map(|ended| &ended.lease).collect::<Vec<_>>(), [&lease]);
    assert_eq!(scheduler.assign(Timestamp(3), &offer(client(1), 2, ROOM, 1)).remove(0).attempt, 2);
}

#[test]
fn a_restarted_server_goes_on_where_it_was() {
    let mut restored = job(1, "a", 10);
    restored.cursor = 4;
    restored.unfinished = vec![1, 3];
    restored.failures = vec![(3, client(1), exit()), (0, client(1), exit())];
    let mut scheduler = scheduler(vec![restored]);
    let lease = Lease {
        fence: Fence(70),
        subjob: SubjobId { job: JobId(1), index: 1 },
        attempt: 1,
        client: client(1),
        seq: 9,
        since: Timestamp(0),
    };
    scheduler.restore_lease(lease.clone(), Timestamp(0));
    let granted = scheduler.assign(Timestamp(0), &offer(client(2), 1, ROOM, 2));
    let given: Vec<_> = granted.iter().map(|lease| (lease.subjob.index, lease.attempt)).collect();
    assert_eq!(given, [(3, 2), (4, 1)]);
    assert!(granted[0].fence > lease.fence);
    assert_eq!(scheduler.succeed(lease.fence, client(1)), Some(lease));
}

#[test]
fn a_removed_job_leaves_nothing() {
    let mut scheduler = scheduler(vec![job(1, "a", 5)]);
    let granted = scheduler.assign(Timestamp(0), &offer(client(1), 1, ROOM, 2));
    assert_eq!(scheduler.remove_job(JobId(1)).len(), 2);
    assert!(!scheduler.has_waiting());
    let fences: Vec<Fence> = granted.iter().map(|lease| lease.fence).collect();
    assert_eq!(scheduler.contact(Timestamp(0), client(1), 2, &fences).dead, fences);
    assert_eq!(scheduler.client_running(client(1)), 0);
}

#[test]
fn a_job_that_needs_a_permit_waits_for_a_client_that_gives_it() {
    let mut online = job(1, "a", 1);
    online.class.needs.network = Reach::Elsewhere;
    let mut scheduler = scheduler(vec![online, job(2, "b", 1)]);
    let mut granted = |seq, permits| {
        let offer = offer(client(1), seq, Capacity { permits, ..ROOM }, 9);
        scheduler.assign(Timestamp(0), &offer).iter().map(|lease| lease.subjob.job.0).collect::<Vec<_>>()
    };
    assert_eq!(granted(1, NOTHING), [2]);
    assert_eq!(granted(2, Permits { network: Reach::Elsewhere, ..NOTHING }), [1]);
}

#[test]
fn a_job_that_names_the_client_itself_goes_where_that_is_permitted() {
    let mut near = job(1, "a", 1);
    near.class.needs.network = Reach::Nearby;
    let mut scheduler = scheduler(vec![near]);
    let mut granted = |seq, network| {
        let permits = Permits { network, ..NOTHING };
        scheduler.assign(Timestamp(0), &offer(client(1), seq, Capacity { permits, ..ROOM }, 9)).len()
    };
    assert_eq!(granted(1, Reach::Elsewhere), 0);
    assert_eq!(granted(2, Reach::Nearby), 1);
}

#[test]
fn a_waiting_job_says_what_it_waits_for() {
    let mut huge = job(1, "a", 5);
    huge.class.memory = ByteSize::gib(8);
    let scheduler = scheduler(vec![huge]);
    let offers = [Capacity { cpus: 2, memory: ByteSize::gib(4), disk: ByteSize::gib(99), permits: NOTHING }];
    assert_eq!(
        scheduler.explain(JobId(1), &offers).expect("waits").sentence(),
        "5 subjobs wait: none of 1 clients has 8 GiB of memory; the nearest has 4 GiB. \
         Lower resources.memory, or add a larger client"
    );
    let mut online = job(1, "a", 5);
    online.class.needs.network = Reach::Elsewhere;
    let sentence = self::scheduler(vec![online]).explain(JobId(1), &offers).expect("waits").sentence();
    let expect =
        "none of 1 clients permits connections to the network; start one with `dcgrid client --network";
    assert!(sentence.contains(expect), "{sentence}");
    let mut near = job(1, "a", 5);
    near.class.needs.network = Reach::Nearby;
    let permits = Permits { network: Reach::Elsewhere, ..NOTHING };
    let near = self::scheduler(vec![near]);
    let sentence = near.explain(JobId(1), &[Capacity { permits, ..offers[0] }]).expect("waits").sentence();
    let expect = "connections to its own machine and link; start one with `dcgrid client --network nearby`";
    assert!(sentence.contains(expect), "{sentence}");
    let mut sealed = job(1, "a", 5);
    sealed.class.needs.sealing = Sealing::OnRequest;
    let sealed = self::scheduler(vec![sealed]);
    let sentence = sealed.explain(JobId(1), &offers).expect("waits").sentence();
    assert!(sentence.contains("none of 1 clients can seal files on its disk"), "{sentence}");
    let permits = Permits { sealing: Sealing::OnRequest, ..NOTHING };
    let sentence = sealed.explain(JobId(1), &[Capacity { permits, ..offers[0] }]).expect("waits").sentence();
    assert!(sentence.contains("wait for a free slot"), "{sentence}");
    let sentence = scheduler.explain(JobId(1), &[]).expect("waits").sentence();
    assert!(sentence.contains("no client is connected"), "{sentence}");
}

/// A small deterministic generator, so that a failing history can be run again from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Random polls, reports, losses and restarts: each subjob ends exactly once, and all add up at every step.
#[test]
fn whatever_happens_each_subjob_ends_once() {
    for seed in 1..=300u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let totals = [1 + random.below(20), 1 + random.below(40)];
        let mut scheduler = scheduler(vec![job(1, "a", totals[0]), job(2, "b", totals[1])]);
        let mut held: Vec<Vec<Fence>> = vec![Vec::new(); 4];
        let mut dead: Vec<(Fence, u8)> = Vec::new();
        let mut ended: BTreeSet<SubjobId> = BTreeSet::new();
        let mut now = 0;
        let mut seq = 0;
        let end = |subjob, ended: &mut BTreeSet<SubjobId>| assert!(ended.insert(subjob), "seed {seed}");
        for _ in 0..5_000 {
            let number = random.below(4) as u8;
            let who = client(number);
            let mine = &mut held[usize::from(number)];
            let mut failed = Vec::new();
            match random.below(10) {
                0..4 => {
                    seq += 1;
                    let contact = scheduler.contact(Timestamp(now), who, seq - 1, mine);
                    mine.retain(|fence| !contact.dead.contains(fence));
                    failed = contact.lost;
                    let most = random.below(4) as usize;
                    let leases = scheduler.assign(Timestamp(now), &offer(who, seq, ROOM, most));
                    mine.extend(leases.iter().map(|lease| lease.fence));
                }
                4..7 if !mine.is_empty() => {
                    let fence = mine.swap_remove(random.below(mine.len() as u64) as usize);
                    dead.push((fence, number));
                    if let Some(lease) = scheduler.succeed(fence, who) {
                        end(lease.subjob, &mut ended);
                    }
                }
                7 if !mine.is_empty() => {
                    let fence = mine.swap_remove(random.below(mine.len() as u64) as usize);
                    failed.extend(scheduler.fail_reported(fence, who, exit()));
                }
                8 => mine.clear(),
                9 => {
                    now += random.below(90_000);
                    failed = scheduler.expire(Timestamp(now));
                }
                _ => {
                    if let Some((fence, number)) = dead.last() {
                        assert_eq!(scheduler.succeed(*fence, client(*number)), None, "seed {seed}");
                    }
                }
            }
            for failure in failed {
                if failure.verdict == Verdict::Failed {
                    end(failure.lease.subjob, &mut ended);
                }
            }
            for (job, total) in [(1, totals[0]), (2, totals[1])] {
                let id = JobId(job);
                let done = ended.iter().filter(|subjob| subjob.job == id).count() as u64;
                let waiting = scheduler.jobs[&id].waiting();
                assert_eq!(waiting + scheduler.running_count(id) + done, total, "seed {seed} job {job}");
            }
        }
        assert_eq!(ended.len() as u64, totals.iter().sum::<u64>(), "seed {seed}: not all ended");
    }
}
