//! The rule engine beside others, in one run, on one core.
//!
//! `cargo run --release --manifest-path benches/compare-rules/Cargo.toml`, with `PULSESTREAM_TEST_POSTGRES_URL` for the SQL part.
//!
//! Ours keeps the windows of all rules up to date. `cel` and `rhai` evaluate the filter of every rule for every event and keep no
//! window, so a real rule would cost more there. The SQL part is what an application does that asks its database in rounds: one count
//! for each rule over the last five minutes, with an index that suits the question.

#[path = "../../src/rules.rs"]
mod scenario;

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use pulsestream_core::alerting::engine::StreamingEngine;
use pulsestream_core::id::TenantId;
use pulsestream_core::ports::rule_engine::RuleEngine;

const EVENTS: u64 = 1_000_000;
const CHUNK: u64 = 20_000;
/// How long the slow ones run.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events of the last five minutes in the database.
const STORED: u64 = 300_000;

fn main() -> Result<(), Box<dyn Error>> {
    for count in [100, 1_000] {
        println!("{count} rules:");
        let ours = ours(count)?;
        show("pulsestream, with windows and 1,000 groups", ours, ours);
        show("rhai, filters only", rhai(count)?, ours);
        show("cel, filters only", cel(count)?, ours);
    }
    match std::env::var("PULSESTREAM_TEST_POSTGRES_URL") {
        Ok(url) => sql(&url)?,
        Err(_) => println!("periodic SQL: set PULSESTREAM_TEST_POSTGRES_URL"),
    }
    Ok(())
}

fn show(name: &str, rate: f64, ours: f64) {
    println!("  {name:<45} {rate:>12.0} events/s  (ours is {:.0} times as fast)", ours / rate);
}

fn ours(count: usize) -> Result<f64, Box<dyn Error>> {
    let mut evaluation = StreamingEngine::default().start(TenantId::from_u128(1), &scenario::rules(count), None)?;
    let mut spent = Duration::ZERO;
    for first in (0..EVENTS).step_by(CHUNK as usize) {
        let events: Vec<_> = (first..first + CHUNK).map(scenario::event).collect();
        let began = Instant::now();
        black_box(evaluation.observe(&events));
        spent += began.elapsed();
    }
    Ok(EVENTS as f64 / spent.as_secs_f64())
}

/// The filters of the rules, as both other languages write them.
fn filters(count: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            let service = format!("service == \"service-{}\"", index % 1_000);
            match index {
                0 => "true".to_owned(),
                _ if index % 5 == 1 => format!("event_type == \"api_call\" && {service}"),
                _ if index % 5 == 2 => format!("{service} && status >= 500"),
                _ if index % 5 == 3 => format!("event_type == \"checkout\" && {service}"),
                _ if index % 5 == 4 => format!("(event_type == \"job\" || event_type == \"task\") && {service}"),
                _ => format!("event_type == \"type-{index}\""),
            }
        })
        .collect()
}

/// Calls `evaluate` with numbers of events until the patience ends, and returns events per second and how many filters held.
fn until_tired(mut evaluate: impl FnMut(u64) -> Result<u64, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let (began, mut number, mut held) = (Instant::now(), 0, 0);
    while began.elapsed() < PATIENCE {
        held += evaluate(number)?;
        number += 1;
    }
    // The first filter holds for every event: nothing was optimised away.
    assert!(held >= number);
    Ok(number as f64 / began.elapsed().as_secs_f64())
}

fn rhai(count: usize) -> Result<f64, Box<dyn Error>> {
    let engine = rhai::Engine::new();
    let filters = filters(count);
    let compiled = filters.iter().map(|filter| engine.compile_expression(filter));
    let compiled: Vec<rhai::AST> = compiled.collect::<Result<_, _>>()?;
    until_tired(|number| {
        let mut scope = rhai::Scope::new();
        scope.push_constant("event_type", rhai::ImmutableString::from("api_call"));
        let service = format!("service-{}", scenario::service(number));
        scope.push_constant("service", rhai::ImmutableString::from(service));
        scope.push_constant("status", i64::from(scenario::status(number)));
        let mut held = 0;
        for ast in &compiled {
            held += u64::from(engine.eval_ast_with_scope::<bool>(&mut scope, ast)?);
        }
        Ok(held)
    })
}

fn cel(count: usize) -> Result<f64, Box<dyn Error>> {
    let filters = filters(count);
    let compiled: Vec<cel::Program> =
        filters.iter().map(|filter| cel::Program::compile(filter)).collect::<Result<_, _>>()?;
    until_tired(|number| {
        let mut context = cel::Context::default();
        context.add_variable_from_value("event_type", "api_call".to_owned());
        context.add_variable_from_value("service", format!("service-{}", scenario::service(number)));
        context.add_variable_from_value("status", i64::from(scenario::status(number)));
        let mut held = 0;
        for program in &compiled {
            held += u64::from(program.execute(&context)? == cel::Value::Bool(true));
        }
        Ok(held)
    })
}

fn sql(url: &str) -> Result<(), Box<dyn Error>> {
    let mut client = postgres::Client::connect(url, postgres::NoTls)?;
    client.batch_execute(
        "create temporary table calls (at timestamptz not null, event_type text not null, service text not null, \
         status int not null, response_time_ms float8 not null)",
    )?;
    client.execute(
        "insert into calls select now() - make_interval(secs => 300.0 * n / $1), 'api_call', \
         'service-' || (n * 7919 % 1000), case when n % 100 = 0 then 503 else 200 end, n % 900 \
         from generate_series(0, $1::bigint - 1) as n",
        &[&i64::try_from(STORED)?],
    )?;
    client.batch_execute("create index on calls (service, at); analyze calls")?;
    let count = client.prepare(
        "select count(*) from calls where service = $1 and event_type = 'api_call' and at > now() - interval '5 minutes'",
    )?;
    let (rounds, began) = (5, Instant::now());
    for _ in 0..rounds {
        for rule in 0..1_000 {
            let row = client.query_one(&count, &[&format!("service-{rule}")])?;
            black_box(row.get::<_, i64>(0));
        }
    }
    println!(
        "periodic SQL, {STORED} events in five minutes: {:?} for one round of 1,000 rules of one tenant",
        began.elapsed() / rounds
    );
    Ok(())
}
