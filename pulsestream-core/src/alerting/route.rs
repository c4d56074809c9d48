//! Routes, inhibitions and mute schedules: one document per tenant.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::silence::check_matchers;
use super::{ChannelRef, Matcher};
use crate::error::{Error, FieldError, Result};
use crate::query::TimeZoneName;
use crate::text::Text;
use crate::time::{Timestamp, duration_text};

/// Deepest nesting of routes.
pub const MAX_ROUTE_DEPTH: usize = 8;
/// Most routes of a tenant, over all levels.
pub const MAX_ROUTES: usize = 500;

fn default_group_wait() -> Duration {
    Duration::from_secs(30)
}

fn default_group_interval() -> Duration {
    Duration::from_secs(300)
}

fn default_repeat_interval() -> Duration {
    Duration::from_secs(4 * 3_600)
}

/// How the alerts of a route are gathered into notifications; what a child does not say it takes from its parent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// All of them must match; none: every alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matchers: Vec<Matcher>,
    /// Where its notifications go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<ChannelRef>>,
    /// Alerts with equal values of these labels share a notification.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<Text>>,
    /// Timing of the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<GroupTiming>,
    /// Names of the mute schedules during which it sends nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mute_during: Vec<Text>,
    /// Whether the routes after it are asked too when it matches.
    #[serde(default, rename = "continue")]
    pub go_on: bool,
    /// Asked in order before the route itself; the first that matches takes the alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Self>,
}

/// When the notification of a group is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupTiming {
    /// How long a new group waits for further alerts.
    #[serde(default = "default_group_wait", with = "duration_text")]
    pub group_wait: Duration,
    /// How long a group waits with news after a notification.
    #[serde(default = "default_group_interval", with = "duration_text")]
    pub group_interval: Duration,
    /// After how long a notification without news is repeated.
    #[serde(default = "default_repeat_interval", with = "duration_text")]
    pub repeat_interval: Duration,
}

impl Default for GroupTiming {
    fn default() -> Self {
        Self {
            group_wait: default_group_wait(),
            group_interval: default_group_interval(),
            repeat_interval: default_repeat_interval(),
        }
    }
}

/// An alert that matches `source` keeps the notifications of alerts that match `target` back, while the labels in `equal` agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inhibition {
    /// The alert that inhibits, at least one matcher.
    pub source: Vec<Matcher>,
    /// The alert that is inhibited, at least one matcher.
    pub target: Vec<Matcher>,
    /// Labels that must have the same value in both; absent in both is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub equal: Vec<Text>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Weekday {
    const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];
}

/// A span of the day that recurs. An end at or before the start lies on the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuteInterval {
    /// The days on which it starts; empty: every day.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub weekdays: BTreeSet<Weekday>,
    /// Minute of the day at which it starts, 0 to 1,439.
    pub start_minute: u16,
    /// Minute of the day at which it ends, 0 to 1,440.
    pub end_minute: u16,
}

/// Recurring times without notifications, by the clock of a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuteSchedule {
    /// Name, unique within the tenant.
    pub name: Text,
    /// Whose clock counts.
    pub time_zone: TimeZoneName,
    /// When nothing is sent.
    pub intervals: Vec<MuteInterval>,
}

impl MuteSchedule {
    /// Returns whether nothing is sent at `now`. Spans follow the clock on the wall: where clocks skip an hour the span is an hour
    /// shorter, where they repeat one it is an hour longer.
    pub fn is_active(&self, now: Timestamp) -> bool {
        let Ok(instant) = jiff::Timestamp::from_microsecond(now.as_micros()) else { return false };
        let local = self.time_zone.rules().to_datetime(instant);
        let weekday = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0) % 7;
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        let (today, yesterday) = (Weekday::ALL[weekday], Weekday::ALL[(weekday + 6) % 7]);
        self.intervals.iter().any(|interval| {
            let starts_on = |day| interval.weekdays.is_empty() || interval.weekdays.contains(&day);
            if interval.end_minute > interval.start_minute {
                starts_on(today) && (interval.start_minute..interval.end_minute).contains(&minute)
            } else {
                (starts_on(today) && minute >= interval.start_minute)
                    || (starts_on(yesterday) && minute < interval.end_minute)
            }
        })
    }
}

/// How the alerts of a tenant become notifications.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routing {
    /// Ascends by one with every change, from 1; 0 is the empty default. Set by the store.
    #[serde(default)]
    pub version: u64,
    /// The root; every alert matches it.
    #[serde(default)]
    pub root: Route,
    /// Which alerts keep others quiet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inhibitions: Vec<Inhibition>,
    /// When nothing is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mute_schedules: Vec<MuteSchedule>,
    /// When it was changed last.
    #[serde(default)]
    pub updated_at: Timestamp,
}

impl Routing {
    /// Checks the document.
    ///
    /// # Errors
    /// `Invalid` with a field error for each thing that is wrong.
    pub fn validate(&self) -> Result<()> {
        let mut fields = Vec::new();
        let mut names = BTreeSet::new();
        for (index, schedule) in self.mute_schedules.iter().enumerate() {
            let pointer = format!("/mute_schedules/{index}");
            if schedule.name.is_empty() || !names.insert(schedule.name.as_str()) {
                fields.push(FieldError::new(format!("{pointer}/name"), "duplicate", "names are unique"));
            }
            for interval in &schedule.intervals {
                if interval.start_minute >= 1_440 || interval.end_minute > 1_440 {
                    fields.push(FieldError::new(
                        format!("{pointer}/intervals"),
                        "out_of_range",
                        "minutes of the day are 0 to 1439, the end at most 1440",
                    ));
                }
            }
        }
        for (index, inhibition) in self.inhibitions.iter().enumerate() {
            for (side, matchers) in [("source", &inhibition.source), ("target", &inhibition.target)] {
                let pointer = format!("/inhibitions/{index}/{side}");
                if matchers.is_empty() {
                    fields.push(FieldError::new(&pointer, "length", "must have at least one matcher"));
                }
                check_matchers(matchers, &pointer, &mut fields);
            }
        }
        if !self.root.matchers.is_empty() {
            fields.push(FieldError::new("/root/matchers", "not_allowed", "the root matches every alert"));
        }
        let mut routes = 0;
        check_route(&self.root, "/root", 0, &names, &mut routes, &mut fields);
        if fields.is_empty() { Ok(()) } else { Err(Error::invalid_fields("routing.validate", fields)) }
    }
}

fn check_route(
    route: &Route,
    pointer: &str,
    depth: usize,
    schedules: &BTreeSet<&str>,
    routes: &mut usize,
    fields: &mut Vec<FieldError>,
) {
    *routes += 1;
    if depth > MAX_ROUTE_DEPTH || *routes > MAX_ROUTES {
        let message = format!("at most {MAX_ROUTE_DEPTH} levels and {MAX_ROUTES} routes are allowed");
        return fields.push(FieldError::new(pointer, "too_many", message));
    }
    check_matchers(&route.matchers, &format!("{pointer}/matchers"), fields);
    for name in &route.mute_during {
        if !schedules.contains(name.as_str()) {
            fields.push(FieldError::new(
                format!("{pointer}/mute_during"),
                "unknown_name",
                format!("there is no mute schedule `{name}`"),
            ));
        }
    }
    if let Some(timing) = &route.timing
        && (timing.group_interval.is_zero() || timing.repeat_interval.is_zero())
    {
        let message = "group_interval and repeat_interval must not be zero";
        fields.push(FieldError::new(format!("{pointer}/timing"), "out_of_range", message));
    }
    for (index, child) in route.routes.iter().enumerate() {
        check_route(child, &format!("{pointer}/routes/{index}"), depth + 1, schedules, routes, fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn nights_follow_the_clocks() {
        let schedule = MuteSchedule {
            name: "nights".into(),
            time_zone: "Europe/Berlin".parse().unwrap(),
            intervals: vec![MuteInterval {
                weekdays: [Weekday::Saturday].into(),
                start_minute: 22 * 60,
                end_minute: 6 * 60,
            }],
        };
        // Clocks go forward in the night to Sunday, 29 March 2026: 22:00 is 21:00 UTC, 06:00 is 04:00 UTC.
        for (text, active) in [
            ("2026-03-28T20:59:59Z", false),
            ("2026-03-28T21:00:00Z", true),
            ("2026-03-29T03:59:59Z", true),
            ("2026-03-29T04:00:00Z", false),
            ("2026-03-29T21:00:00Z", false),
        ] {
            assert_eq!(schedule.is_active(at(text)), active, "{text}");
        }
    }

    #[test]
    fn refuses_unknown_schedules_and_depth() {
        let mut routing = Routing::default();
        routing.validate().unwrap();
        routing.root.mute_during.push("nights".into());
        assert!(routing.validate().unwrap_err().message().contains("nights"));
        let mut deep = Route::default();
        for _ in 0..=MAX_ROUTE_DEPTH {
            deep = Route { routes: vec![deep], ..Route::default() };
        }
        assert!(Routing { root: deep, ..Routing::default() }.validate().is_err());
    }
}
