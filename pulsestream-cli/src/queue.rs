//! `pulsestream queue`: what an operator does about batches that could not be stored.

use std::process::ExitCode;
use std::sync::Arc;

use pulsestream_core::Result;
use pulsestream_core::env::Env;
use pulsestream_core::ports::event_store::Durability;
use pulsestream_core::ports::ingest_queue::{DeadLetter, IngestQueue};
use pulsestream_core::text::Text;
use pulsestream_redis::{RedisConfig, RedisIngestQueue};

use crate::args::{DeadArgs, EndDeadArgs, QueueArgs, QueueCommand};

/// Dead letters of one question.
const PAGE: usize = 1_000;

/// Runs the command.
pub(crate) async fn run(command: QueueCommand) -> Result<ExitCode> {
    match command {
        QueueCommand::Status(args) => status(&args).await?,
        QueueCommand::Dead(args) => dead(&args).await?,
        QueueCommand::Replay(args) => {
            let queue = open(&args.queue).await?;
            let receipts = receipts(&queue, &args).await?;
            say!("{} dead letters are in the queue again", queue.replay(&receipts).await?);
        }
        QueueCommand::Discard(args) => {
            let queue = open(&args.queue).await?;
            let receipts = receipts(&queue, &args).await?;
            say!("{} dead letters are gone", queue.discard(&receipts).await?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the queue to look at it, which asks nothing of the durability of the server.
async fn open(args: &QueueArgs) -> Result<Arc<RedisIngestQueue>> {
    let mut config = RedisConfig::new(&args.redis);
    config.key_prefix.clone_from(&args.redis_prefix);
    config.queue.required_durability = Durability::Accepted;
    Ok(pulsestream_redis::open(config, Env::system()).await?.ingest_queue())
}

async fn status(args: &QueueArgs) -> Result<()> {
    let queue = open(args).await?;
    let depth = queue.depth().await?;
    say!("durability    {}", format!("{:?}", queue.durability()).to_lowercase());
    say!("batches       {}", depth.batches);
    say!("dead letters  {}", depth.dead);
    say!("events        {}   (of both)", depth.events);
    Ok(())
}

async fn dead(args: &DeadArgs) -> Result<()> {
    for letter in open(&args.queue).await?.dead_letters(args.limit).await? {
        say!("{}", line(&letter));
        if let (true, Ok(events)) = (args.events, &letter.events) {
            for event in events {
                let json = serde_json::to_string(event).map_err(|error| {
                    pulsestream_core::Error::new(
                        pulsestream_core::ErrorKind::Internal,
                        "queue.dead",
                        "an event cannot be written",
                    )
                    .with_source(error)
                })?;
                say!("  {json}");
            }
        }
    }
    Ok(())
}

/// Receipt, tenant, number of events, deliveries and reason.
fn line(letter: &DeadLetter) -> String {
    let tenant = letter.tenant.map_or_else(|| "unknown tenant".to_owned(), |tenant| tenant.to_string());
    let events = match &letter.events {
        Ok(events) => format!("{} events", events.len()),
        Err(problem) => format!("unreadable ({problem})"),
    };
    let DeadLetter { receipt, deliveries, reason, .. } = letter;
    format!("{receipt}  {tenant}  {events}  handed out {deliveries} times: {reason}")
}

/// Those that were named, or all.
async fn receipts(queue: &RedisIngestQueue, args: &EndDeadArgs) -> Result<Vec<Text>> {
    if !args.all {
        return Ok(args.receipts.iter().map(|receipt| receipt.as_str().into()).collect());
    }
    Ok(queue.dead_letters(PAGE).await?.into_iter().map(|letter| letter.receipt).collect())
}
