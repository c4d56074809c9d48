//! `pulsestream doctor`: what a store holds and whether it is sound.

use std::process::ExitCode;

use pulsestream::PulseStream;
use pulsestream_core::Result;

use crate::args::DoctorArgs;

/// Opens the store, asks it about itself, and prints the answer.
pub(crate) async fn run(args: DoctorArgs) -> Result<ExitCode> {
    let ps = PulseStream::open(&args.store).await?;
    let status = ps.event_store().check().await?;
    println!("store       {}", ps.url());
    println!("backend     {}", status.backend);
    println!("durability  {:?}", status.durability);
    println!("writable    {}", if status.writable { "yes" } else { "no" });
    if let Some(events) = status.events {
        println!("events      {events}");
    }
    if let Some(bytes) = status.bytes {
        println!("bytes       {bytes}");
    }
    for (name, value) in &status.details {
        println!("{name:<11} {value}");
    }
    ps.close().await?;
    Ok(if status.writable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
