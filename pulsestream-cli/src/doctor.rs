//! `pulsestream doctor`: what a store holds and whether it is sound.

use std::path::Path;
use std::process::ExitCode;

use indicatif::HumanBytes;
use pulsestream::{PrimaryStore, PulseStream, StoreUrl};
use pulsestream_core::env::Env;
use pulsestream_core::{Error, ErrorKind, Result};
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore, Report};

use crate::args::DoctorArgs;
use crate::open;

/// Verifies a folder, or asks another store about itself, and prints what it found.
pub(crate) async fn run(args: DoctorArgs) -> Result<ExitCode> {
    let url: StoreUrl = args.store.parse()?;
    match &url.primary {
        PrimaryStore::Folder(path) => verify_folder(path, args.set_aside.as_deref()),
        _ if args.set_aside.is_some() => {
            Err(Error::new(ErrorKind::Unsupported, "doctor", "only a store in a folder has segments"))
        }
        _ => ask(&args.store).await,
    }
}

/// Reads everything in a folder and compares every checksum, after setting a segment aside if that is asked for.
fn verify_folder(path: &Path, set_aside: Option<&str>) -> Result<ExitCode> {
    open::require_store("doctor", path)?;
    let store = EmbeddedStore::open(path, EmbeddedConfig::default(), Env::system())?;
    if let Some(segment) = set_aside {
        say!("{segment} is set aside as {}\n", store.set_aside(segment)?);
    }
    let report = store.verify()?;
    print(&report);
    Ok(if report.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report) {
    say!("{:<28} {:>10} {:>10} {:>10}  first .. last", "segment", "size", "events", "deleted");
    for segment in &report.segments {
        let range = match (segment.first, segment.last) {
            (Some(first), Some(last)) => format!("{first} .. {last}"),
            _ => String::new(),
        };
        let size = HumanBytes(segment.bytes).to_string();
        say!("{:<28} {size:>10} {:>10} {:>10}  {range}", segment.file, segment.rows, segment.deleted_rows);
        if let Some(damage) = &segment.damage {
            say!("  DAMAGED: {damage}");
        }
    }
    say!("not sealed yet: {} events", report.fresh_events);
    match &report.entries_damage {
        Some(damage) => say!("rules and accounts: DAMAGED: {damage}"),
        None => say!("rules and accounts: {}", HumanBytes(report.entries_bytes)),
    }
    if report.truncated_bytes > 0 {
        say!(
            "cut from the log when it was opened: {} that were never acknowledged",
            HumanBytes(report.truncated_bytes)
        );
    }
    if !report.columns.is_empty() {
        let all: u64 = report.columns.iter().map(|(_, bytes)| bytes).sum();
        say!("\n{:<40} {:>12} {:>7}", "column", "size", "share");
        for (column, bytes) in &report.columns {
            let permille = bytes.saturating_mul(1_000) / all.max(1);
            let share = format!("{}.{}%", permille / 10, permille % 10);
            say!("{column:<40} {:>12} {share:>7}", HumanBytes(*bytes).to_string());
        }
    }
    if !report.tenants.is_empty() {
        say!("\n{:<40} {:>12} {:>10} {:>12}", "tenant", "sealed size", "events", "not sealed");
    }
    for tenant in &report.tenants {
        let size = HumanBytes(tenant.bytes).to_string();
        say!(
            "{:<40} {size:>12} {:>10} {:>12}",
            tenant.tenant.to_string(),
            tenant.events,
            tenant.fresh_events
        );
    }
    say!(
        "\n{}",
        if report.is_healthy() {
            "every checksum is right"
        } else {
            "the store is damaged: restore a snapshot, or go on without a segment that cannot be opened: --set-aside SEGMENT"
        }
    );
}

async fn ask(store: &str) -> Result<ExitCode> {
    let ps = PulseStream::builder().without_background().open(store).await?;
    let status = ps.event_store().check().await?;
    say!("store       {}", ps.url());
    say!("backend     {}", status.backend);
    say!("durability  {:?}", status.durability);
    say!("writable    {}", if status.writable { "yes" } else { "no" });
    if let Some(events) = status.events {
        say!("events      {events}");
    }
    if let Some(bytes) = status.bytes {
        say!("bytes       {bytes}");
    }
    for (name, value) in &status.details {
        say!("{name:<11} {value}");
    }
    for impairment in &status.impairments {
        say!("impaired    {}: {}", impairment.cause, impairment.remedy);
    }
    ps.close().await?;
    Ok(if status.writable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
