use std::sync::Arc;

use super::*;
use crate::error::{Fault, FaultResult};
use crate::storage::{Fail, FaultyStorage, OpenMode, Operation, SimFs, Storage};

const OPTIONS: WalOptions = WalOptions { file_bytes: 4_096, max_spares: 2 };

/// Positions and payloads.
type Seen = Vec<(u64, Vec<u8>)>;

fn open(storage: &Arc<dyn Storage>, sealed: u64) -> FaultResult<(Recovered, Seen)> {
    let mut seen = Vec::new();
    let recovered = recover(storage, OPTIONS, sealed, |position, payload| {
        seen.push((position, payload.to_vec()));
        Ok(())
    })?;
    Ok((recovered, seen))
}

/// A batch of `events` events whose content is told by its position.
fn buffer(position: u64, events: u32, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_HEADER_BYTES];
    buffer.extend_from_slice(&events.to_le_bytes());
    buffer.extend((0..bytes).map(|index| (position as usize * 31 + index) as u8));
    buffer
}

fn append(wal: &mut Wal, events: u32, bytes: usize, sync: bool) -> FaultResult<Vec<u8>> {
    let mut buffer = buffer(wal.position(), events, bytes);
    wal.reserve(frame_bytes(buffer.len()))?;
    wal.write(&mut [(&mut buffer, events)], sync)?;
    Ok(buffer.split_off(FRAME_HEADER_BYTES))
}

#[test]
fn batches_come_back_in_order_over_many_files() {
    let storage: Arc<dyn Storage> = Arc::new(SimFs::new());
    let mut expected = Vec::new();
    let mut sealed = 0;
    for round in 0..5 {
        let (mut recovered, seen) = open(&storage, sealed).unwrap();
        assert_eq!(seen, expected, "round {round}");
        for index in 0..40 {
            let position = recovered.wal.position();
            let payload = append(&mut recovered.wal, 3, 100 + index * 7, index % 3 == 0).unwrap();
            expected.push((position, payload));
        }
        // Everything but the last 50 batches goes to segments.
        let keep = expected.len().saturating_sub(50);
        expected.drain(..keep);
        sealed = expected[0].0;
        recovered.wal.release(sealed).unwrap();
    }
    let spares = storage.list(DIRECTORY).unwrap().iter().filter(|name| name.ends_with(".spare")).count();
    assert!(spares > 0, "files are reused");
}

#[test]
fn a_frame_larger_than_a_file_gets_its_own() {
    let storage: Arc<dyn Storage> = Arc::new(SimFs::new());
    let (mut recovered, _) = open(&storage, 0).unwrap();
    append(&mut recovered.wal, 1, 10, true).unwrap();
    let large = append(&mut recovered.wal, 2, 300_000, true).unwrap();
    append(&mut recovered.wal, 1, 10, true).unwrap();
    let (_, seen) = open(&storage, 0).unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[1], (1, large));
    assert_eq!(seen[2].0, 3);
}

#[test]
fn power_loss_at_every_operation_keeps_what_was_synced() {
    let script = |storage: &Arc<dyn Storage>| {
        let mut durable = Vec::new();
        let mut submitted = Vec::new();
        let run = || -> FaultResult<()> {
            let (mut recovered, _) = open(storage, 0)?;
            for index in 0..30_usize {
                let sync = index % 4 != 1;
                let position = recovered.wal.position();
                let payload = buffer(position, 2, 40 + index * 40).split_off(FRAME_HEADER_BYTES);
                submitted.push((position, payload));
                append(&mut recovered.wal, 2, 40 + index * 40, sync)?;
                if sync {
                    durable = submitted.clone();
                }
            }
            Ok(())
        };
        let mut run = run;
        let _ = run();
        (durable, submitted)
    };
    let whole = SimFs::new();
    script(&(Arc::new(whole.clone()) as Arc<dyn Storage>));
    for cut in 0..whole.operations() {
        let fs = SimFs::new();
        fs.cut_power_after(cut);
        let (durable, submitted) = script(&(Arc::new(fs.clone()) as Arc<dyn Storage>));
        for seed in 0..20 {
            let after: Arc<dyn Storage> = Arc::new(fs.after_power_loss(seed));
            let (recovered, seen) =
                open(&after, 0).unwrap_or_else(|fault| panic!("cut {cut} seed {seed}: {fault}"));
            assert!(seen.len() >= durable.len(), "cut {cut} seed {seed}: lost a durable batch");
            assert_eq!(seen, submitted[..seen.len()], "cut {cut} seed {seed}");
            drop(recovered);
            let (_, again) = open(&after, 0).unwrap();
            assert_eq!(again, seen, "recovery is repeatable");
        }
    }
}

#[test]
fn a_damaged_middle_is_refused_and_a_torn_end_is_cut() {
    let fs = SimFs::new();
    let storage: Arc<dyn Storage> = Arc::new(fs.clone());
    let (mut recovered, _) = open(&storage, 0).unwrap();
    for _ in 0..10 {
        append(&mut recovered.wal, 1, 100, true).unwrap();
    }
    let name = "wal/0000000000000001.wal";
    let frame = frame_bytes(FRAME_HEADER_BYTES + 104);
    let last = 64 + 9 * frame;
    for offset in 64..last + frame {
        let copy = fs.after_kill();
        assert!(copy.flip(name, offset));
        let storage: Arc<dyn Storage> = Arc::new(copy);
        match open(&storage, 0) {
            Err(Fault::Corrupt { file, offset: at, .. }) => {
                assert_eq!(file, name);
                assert!(offset < last, "offset {offset}");
                assert_eq!(at, 64 + (offset - 64) / frame * frame);
            }
            // Nothing proves that the last frame was ever durable.
            Ok((recovered, seen)) => {
                assert!(offset >= last, "offset {offset}");
                assert_eq!(seen.len(), 9);
                assert_eq!(recovered.wal.position(), 9);
            }
            Err(other) => panic!("offset {offset}: {other}"),
        }
    }
    // A close proves it.
    recovered.wal.mark().unwrap();
    assert!(fs.flip(name, last + 40));
    assert!(matches!(open(&storage, 0), Err(Fault::Corrupt { .. })));
}

#[test]
fn a_failed_sync_poisons_and_is_not_repeated() {
    let faulty = Arc::new(FaultyStorage::new(Arc::new(SimFs::new())));
    let storage: Arc<dyn Storage> = Arc::clone(&faulty) as _;
    let (mut recovered, _) = open(&storage, 0).unwrap();
    append(&mut recovered.wal, 1, 10, true).unwrap();
    faulty.set(Some(Fail { operation: Operation::Sync, nth: 1, persistent: false, errno: 5 }));
    assert!(matches!(append(&mut recovered.wal, 1, 10, true), Err(Fault::SyncFailed { .. })));
    assert!(matches!(append(&mut recovered.wal, 1, 10, true), Err(Fault::Poisoned)));
    assert!(recovered.wal.is_poisoned());
    assert_eq!(faulty.seen(), 1);
}

#[test]
fn every_failing_operation_keeps_acknowledged_batches_and_refuses_the_others() {
    for operation in Operation::ALL {
        for (persistent, errno) in [(false, 5), (false, 28), (true, 5), (true, 28)] {
            for nth in 1.. {
                let fs = SimFs::new();
                let faulty = Arc::new(FaultyStorage::new(Arc::new(fs.clone())));
                let storage: Arc<dyn Storage> = Arc::clone(&faulty) as _;
                let (mut recovered, _) = open(&storage, 0).unwrap();
                faulty.set(Some(Fail { operation, nth, persistent, errno }));
                let mut acknowledged = Vec::new();
                let (mut unknown, mut released) = (false, 0);
                for index in 0..24 {
                    let position = recovered.wal.position();
                    match append(&mut recovered.wal, 1, 500 + index, true) {
                        Ok(payload) => acknowledged.push((position, payload)),
                        Err(Fault::SyncFailed { .. } | Fault::Poisoned) => unknown = true,
                        Err(_) => {}
                    }
                    if index % 8 == 7 {
                        released = position.saturating_sub(10);
                        let _ = recovered.wal.release(released);
                    }
                }
                let untouched = faulty.seen() < nth;
                faulty.set(None);
                drop(recovered);
                let (_, seen) = open(&storage, released).unwrap();
                acknowledged.retain(|(position, _)| *position >= released);
                if unknown {
                    assert_eq!(seen[..acknowledged.len()], acknowledged, "{operation:?} {nth}");
                    assert!(seen.len() <= acknowledged.len() + 1);
                } else {
                    assert_eq!(seen, acknowledged, "{operation:?} {nth} {persistent} {errno}");
                }
                if untouched {
                    break;
                }
            }
        }
    }
}

#[test]
fn files_of_a_later_version_are_not_touched() {
    let fs = SimFs::new();
    let storage: Arc<dyn Storage> = Arc::new(fs.clone());
    let (mut recovered, _) = open(&storage, 0).unwrap();
    append(&mut recovered.wal, 1, 10, true).unwrap();
    let file = fs.open("wal/0000000000000001.wal", OpenMode::Write).unwrap();
    let mut header = [0; 64];
    file.read_at(&mut header, 0).unwrap();
    header[8] = 9;
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    file.write_at(&header, 0).unwrap();
    let operations = fs.operations();
    assert!(matches!(open(&storage, 0), Err(Fault::Newer { version: 9, .. })));
    assert_eq!(fs.operations(), operations);
}

mod group_commit {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll, Wake, Waker};

    use super::super::{Group, Lead};
    use crate::error::{Fault, FaultResult};

    #[derive(Debug, Default)]
    struct Recorder {
        groups: Arc<Mutex<Vec<Vec<u32>>>>,
        slow: bool,
    }

    impl Lead for Recorder {
        type Job = u32;
        type Done = u32;

        fn commit(&mut self, jobs: Vec<u32>) -> Vec<FaultResult<u32>> {
            let outcomes = jobs.iter().map(|job| Ok(job * 2)).collect();
            self.groups.lock().unwrap().push(jobs);
            outcomes
        }

        fn is_slow(&self) -> bool {
            self.slow
        }
    }

    struct Flag(AtomicUsize);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    #[test]
    fn one_thread_with_many_futures_commits_them_as_one_group() {
        let recorder = Recorder::default();
        let groups = Arc::clone(&recorder.groups);
        let group = Group::new(recorder, 1 << 20, 1 << 20);
        let waker = Waker::from(Arc::new(Flag(AtomicUsize::new(0))));
        let mut context = Context::from_waker(&waker);
        let mut futures: Vec<_> = (0..64).map(|job| Box::pin(group.submit(job, 1))).collect();
        for future in &mut futures {
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        for (job, future) in futures.iter_mut().enumerate() {
            let Poll::Ready(outcome) = future.as_mut().poll(&mut context) else { panic!("job {job} waits") };
            assert_eq!(outcome.unwrap(), job as u32 * 2);
        }
        assert_eq!(groups.lock().unwrap().len(), 1);
    }

    #[test]
    fn many_threads_all_get_their_own_outcome() {
        for slow in [false, true] {
            let recorder = Recorder { slow, ..Recorder::default() };
            let groups = Arc::clone(&recorder.groups);
            let group = Group::new(recorder, 1 << 20, 1 << 20);
            let server = group.clone();
            let thread = std::thread::spawn(move || server.serve());
            std::thread::scope(|scope| {
                for client in 0..8 {
                    let group = group.clone();
                    scope.spawn(move || {
                        for job in client * 1_000..client * 1_000 + 500 {
                            assert_eq!(block_on(group.submit(job, 1)).unwrap(), job * 2);
                        }
                    });
                }
            });
            group.close();
            thread.join().unwrap();
            assert!(matches!(block_on(group.submit(1, 1)), Err(Fault::Closed)));
            assert_eq!(groups.lock().unwrap().iter().map(Vec::len).sum::<usize>(), 4_000);
        }
    }

    #[test]
    fn a_dropped_submission_is_committed_and_delays_nobody() {
        let recorder = Recorder::default();
        let groups = Arc::clone(&recorder.groups);
        let group = Group::new(recorder, 1 << 20, 1 << 20);
        let server = group.clone();
        let thread = std::thread::spawn(move || server.serve());
        let waker = Waker::from(Arc::new(Flag(AtomicUsize::new(0))));
        for job in 0..100 {
            let mut dropped = Box::pin(group.submit(job * 2, 1));
            assert!(dropped.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            drop(dropped);
            assert_eq!(block_on(group.submit(job * 2 + 1, 1)).unwrap(), job * 4 + 2);
        }
        group.close();
        thread.join().unwrap();
        assert_eq!(groups.lock().unwrap().concat(), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_group_takes_as_many_bytes_as_it_may_and_at_least_one_submission() {
        let recorder = Recorder::default();
        let groups = Arc::clone(&recorder.groups);
        let group = Group::new(recorder, 1_000, 100);
        let waker = Waker::from(Arc::new(Flag(AtomicUsize::new(0))));
        let mut context = Context::from_waker(&waker);
        let sizes = [40, 60, 1, 500, 100];
        let mut futures: Vec<_> = (0..).zip(sizes).map(|(job, bytes)| group.submit(job, bytes)).collect();
        for future in &mut futures {
            assert!(Pin::new(future).poll(&mut context).is_pending());
        }
        assert_eq!(group.queued_bytes(), 701);
        group.drain();
        assert_eq!(*groups.lock().unwrap(), [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert_eq!(group.queued_bytes(), 0);
    }

    #[test]
    fn a_full_queue_refuses() {
        let group = Group::new(Recorder::default(), 100, 100);
        let waker = Waker::from(Arc::new(Flag(AtomicUsize::new(0))));
        let mut context = Context::from_waker(&waker);
        let mut first = Box::pin(group.submit(1, 90));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert_eq!(group.queued_bytes(), 90);
        let mut second = Box::pin(group.submit(2, 20));
        assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Err(Fault::Full { .. }))));
        assert!(matches!(first.as_mut().poll(&mut context), Poll::Ready(Ok(2))));
        assert_eq!(group.queued_bytes(), 0);
    }
}
