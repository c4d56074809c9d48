//! Lockout simulations on a clock that a test drives.

use super::*;
use crate::env::ManualClock;
use crate::time::Timestamp;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A throttle whose monotonic time a test sets.
#[derive(Debug)]
struct Driven {
    throttle: Throttle,
    clock: Arc<ManualClock>,
}

impl Driven {
    fn at(&self, now: Duration) -> &Throttle {
        self.clock.advance(now.saturating_sub(self.clock.monotonic()));
        &self.throttle
    }
}

fn driven(settings: ThrottleSettings) -> Driven {
    let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
    Driven { throttle: Throttle::new(settings, clock.clone()), clock }
}

fn throttle() -> Driven {
    driven(ThrottleSettings::default())
}

/// Makes an attempt that fails at once; returns the wait when it was refused.
fn wait(driven: &Driven, account: &str, source: &str, now: Duration) -> Option<u64> {
    let source = source.parse().ok();
    match driven.at(now).attempt(Purpose::SignIn, &["shop", account], source) {
        Ok(_) => None,
        Err(error) => Some(error.retry_after().unwrap().as_secs()),
    }
}

#[test]
fn delays_double_and_stop_at_the_limit() {
    let throttle = throttle();
    let mut now = seconds(10);
    for _ in 0..3 {
        assert_eq!(wait(&throttle, "a", "", now), None);
    }
    for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900] {
        assert_eq!(wait(&throttle, "a", "", now), Some(expected));
        assert_eq!(wait(&throttle, &format!("other{now:?}"), "", now), None);
        now += seconds(expected);
        assert_eq!(wait(&throttle, "a", "", now), None, "after {expected} s the next is free");
    }
}

#[test]
fn guesses_of_a_day_are_few() {
    let throttle = throttle();
    let guesses = (0..86_400).filter(|second| wait(&throttle, "a", "", seconds(*second)).is_none()).count();
    assert!((80..130).contains(&guesses), "{guesses}");
}

#[test]
fn a_right_password_starts_again_and_an_hour_forgets() {
    let throttle = throttle();
    for _ in 0..2 {
        assert_eq!(wait(&throttle, "a", "", seconds(0)), None);
    }
    throttle.at(seconds(0)).attempt(Purpose::SignIn, &["shop", "a"], None).unwrap().succeed();
    for _ in 0..3 {
        assert_eq!(wait(&throttle, "a", "", seconds(0)), None);
    }
    assert_eq!(wait(&throttle, "a", "", seconds(0)), Some(1));
    for _ in 0..3 {
        assert_eq!(wait(&throttle, "a", "", seconds(3_600)), None, "forgotten");
    }
    assert_eq!(wait(&throttle, "a", "", seconds(3_600)), Some(1));
}

#[test]
fn one_address_trying_many_accounts_is_delayed_and_others_are_not() {
    let throttle = throttle();
    for account in 0..30 {
        assert_eq!(wait(&throttle, &account.to_string(), "203.0.113.9", seconds(0)), None);
    }
    assert_eq!(wait(&throttle, "31", "203.0.113.9", seconds(0)), Some(1));
    assert_eq!(wait(&throttle, "31", "::ffff:203.0.113.9", seconds(0)), Some(1), "the same address");
    assert_eq!(wait(&throttle, "31", "203.0.113.10", seconds(0)), None);
    for host in 0..30 {
        assert_eq!(wait(&throttle, &format!("six{host}"), &format!("2001:db8::{host:x}"), seconds(0)), None);
    }
    assert_eq!(wait(&throttle, "six", "2001:db8::ffff", seconds(0)), Some(1), "the same /64");
}

#[test]
fn refused_attempts_do_not_lengthen_the_delay() {
    let throttle = throttle();
    for _ in 0..4 {
        let _ = wait(&throttle, "a", "", seconds(0));
    }
    for _ in 0..1_000 {
        assert_eq!(wait(&throttle, "a", "", seconds(0)), Some(1));
    }
    assert_eq!(wait(&throttle, "a", "", seconds(1)), None);
}

#[test]
fn a_flood_of_made_up_accounts_does_not_free_the_victim() {
    let throttle = driven(ThrottleSettings { entries: 100, ..ThrottleSettings::default() });
    for now in [0, 0, 0, 1, 3] {
        assert_eq!(wait(&throttle, "victim", "", seconds(now)), None);
    }
    for account in 0..10_000 {
        let _ = wait(&throttle, &account.to_string(), "", seconds(3));
    }
    assert_eq!(wait(&throttle, "victim", "", seconds(3)), Some(4));
    let table = throttle.throttle.0.table.lock().unwrap();
    assert_eq!((table.failures.len(), table.weakest.len()), (100, 100));
}

#[test]
fn an_undone_attempt_leaves_nothing() {
    let throttle = throttle();
    for _ in 0..100 {
        throttle.throttle.attempt(Purpose::SignIn, &["a"], Some([10, 0, 0, 1].into())).unwrap().undo();
    }
    let table = throttle.throttle.0.table.lock().unwrap();
    assert!(table.failures.is_empty() && table.weakest.is_empty());
}

#[test]
fn a_clean_account_may_sign_in_many_times_at_once_and_a_guessed_at_one_not() {
    let throttle = throttle();
    let start = || throttle.throttle.attempt(Purpose::SignIn, &["shop", "a"], None);
    let mut pending: Vec<_> = (0..16).map(|_| start().unwrap()).collect();
    assert_eq!(start().unwrap_err().retry_after(), Some(seconds(1)));
    pending.pop().unwrap().succeed();
    assert!(start().is_ok());
    for attempt in pending {
        attempt.succeed();
    }
    // All that were under way turn out wrong: the next waits as after so many failures, and then goes alone.
    let pending: Vec<_> = (0..16).map(|_| start().unwrap()).collect();
    drop(pending);
    assert_eq!(start().unwrap_err().retry_after(), Some(seconds(900)));
    throttle.at(seconds(900));
    let alone = start().unwrap();
    assert!(start().is_err());
    alone.succeed();
    assert_eq!((0..16).map(|_| start().unwrap()).collect::<Vec<_>>().len(), 16);
}

#[test]
fn what_is_sent_is_counted_while_it_is_under_way() {
    let throttle = throttle();
    let start = || throttle.throttle.attempt(Purpose::PasswordReset, &["shop", "a"], None);
    let _pending: Vec<_> = (0..3).map(|_| start().unwrap()).collect();
    assert!(start().is_err());
}
