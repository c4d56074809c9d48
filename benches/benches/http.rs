//! The HTTP interface over the embedded store with durable acknowledgements, beside a handler that only parses the same JSON and
//! beside the store called directly, in one run. It needs `wrk`, and two cores: one for the server, one for `wrk`.
//!
//! - `cargo bench -p pulsestream-benches --bench http`: rates and latencies, each server and its store on one core. `CORES=all` in the
//!   environment lets the store's own threads have what `wrk` leaves of the other one; `SECONDS=20` makes it longer.
//! - `cargo bench -p pulsestream-benches --bench http -- overload`: a minute of five times what the server can do, arriving at its
//!   own pace, while another tenant sends one event at a time.
//!
//! The store called directly starts where a caller of the library does: it makes each event, with its id and its time, from one that was
//! parsed before, of the same bodies. So the batches over HTTP pay for reading JSON, checking, limits and the answer, and it does not.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a bench, not a library")]
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "rates of whole numbers"
)]

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use pulsestream::{PulseStream, Unlimited};
use pulsestream_axum::{ApiConfig, serve};
use pulsestream_core::auth::{EnsureAdmin, EnsuredAdmin, RegisterTenant};
use pulsestream_core::env::Env;
use pulsestream_core::event::{BatchForm, Event};
use pulsestream_core::id::{EventId, TenantId};
use pulsestream_core::ports::auth::Origin;
use pulsestream_core::ports::event_store::{AppendOptions, EventStore};
use pulsestream_core::settings::HttpSettings;
use pulsestream_core::testkit::Random;
use pulsestream_embedded::{EmbeddedConfig, EmbeddedStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

const SINGLE: &str = "/api/v1/ingestion/events";
const BATCH: &str = "/api/v1/ingestion/events/batch";
const BATCH_EVENTS: usize = 1_000;
/// How many batches take turns, each with other events.
const BATCH_BODIES: usize = 16;
const CONNECTIONS: usize = 64;
const BATCH_CONNECTIONS: usize = 8;

/// One of the events: they have the same fields, and each its own values.
fn event(random: &Random) -> Value {
    let (user, order) = (random.skewed(5_000), random.below(1_000_000));
    let milliseconds = (182.5 * (0.6 * random.normal()).exp() * 1_000.0).round() / 1_000.0;
    json!({
        "event_type": "api_call", "title": "POST /checkout", "severity": "error", "message": "the payment was refused",
        "source": {"service": "shop", "endpoint": "/checkout", "method": "POST", "version": "1.4.2", "environment": "production"},
        "context": {
            "user_id": format!("u-{user}"), "session_id": format!("s-{user:x}-{}", random.below(6)),
            "request_id": format!("r-{:08x}", random.below(1 << 32)),
            "tags": {"plan": random.pick(&["free", "team", "pro"]), "country": random.pick(&["DE", "FR", "US", "IN"])},
        },
        "metrics": {
            "response_time_ms": milliseconds, "status_code": random.pick(&[500, 502, 503]),
            "request_size_bytes": 200 + random.below(1_800), "response_size_bytes": 40 + random.below(100),
        },
        "payload": {
            "order": order, "amount": f64::from(random.skewed(90_000) as u32) / 100.0, "currency": "EUR",
            "items": [{"sku": format!("A-{}", random.skewed(900)), "count": 2}, {"sku": format!("B-{}", random.skewed(900)), "count": 1}],
        },
    })
}

/// Bodies of so many events.
fn batches(count: usize, events: usize) -> Vec<Value> {
    let random = Random::new(1);
    (0..count).map(|_| json!({"events": (0..events).map(|_| event(&random)).collect::<Vec<_>>()})).collect()
}

/// One core for a server.
fn one_core() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Serves on a free port until the runtime is dropped.
fn listen(runtime: &Runtime, app: Router) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime
        .spawn(async move { serve(listener, app, &HttpSettings::default(), std::future::pending()).await });
    address
}

/// A handler that parses what it gets.
fn bare() -> Router {
    async fn parse(axum::Json(body): axum::Json<Value>) -> axum::Json<Value> {
        axum::Json(json!({"success": body.is_object()}))
    }
    Router::new().route(SINGLE, post(parse)).route(BATCH, post(parse))
}

/// The router over a folder, and a key that may send to it.
async fn pulsestream(folder: &Path, config: EmbeddedConfig) -> (PulseStream, Router, String) {
    let builder = PulseStream::builder().with_rate_limiter(Arc::new(Unlimited)).with_embedded_config(config);
    let ps = builder.open(folder.to_str().unwrap()).await.unwrap();
    let request = EnsureAdmin {
        tenant_name: "Bench".to_owned(),
        tenant_slug: "bench".to_owned(),
        email: "owner@bench.example".to_owned(),
        full_name: "Bench Owner".to_owned(),
        password: None,
    };
    let EnsuredAdmin::Created { api_key: Some(key), .. } =
        ps.accounts().ensure_admin(&request).await.unwrap()
    else {
        panic!("the folder is new")
    };
    let app = pulsestream_axum::router(ps.clone(), ApiConfig::default()).unwrap();
    (ps, app, key.expose().to_owned())
}

/// What `wrk` measured.
struct Measured {
    per_second: f64,
    p50: String,
    p99: String,
}

fn wrk(
    address: SocketAddr,
    path: &str,
    key: &str,
    bodies: &[Value],
    connections: usize,
    seconds: u64,
) -> Measured {
    let mut script = tempfile::NamedTempFile::new().unwrap();
    writeln!(script, "wrk.method = 'POST'").unwrap();
    writeln!(script, "wrk.headers['content-type'] = 'application/json'").unwrap();
    writeln!(script, "wrk.headers['x-api-key'] = '{key}'").unwrap();
    writeln!(script, "local bodies, requests, turn = {{}}, {{}}, 0").unwrap();
    for body in bodies {
        writeln!(script, "bodies[#bodies + 1] = [=[{body}]=]").unwrap();
    }
    writeln!(script, "init = function() for i, body in ipairs(bodies) do requests[i] = wrk.format(nil, nil, nil, body) end end").unwrap();
    writeln!(script, "request = function() turn = turn % #requests + 1; return requests[turn] end").unwrap();
    let (program, before): (_, &[&str]) =
        if has_one_core() { ("taskset", &["-c", "1", "wrk"]) } else { ("wrk", &[]) };
    let output = Command::new(program)
        .args(before)
        .args([
            "-t1",
            &format!("-c{connections}"),
            &format!("-d{seconds}s"),
            "--latency",
            "--timeout",
            "30s",
            "-s",
        ])
        .arg(script.path())
        .arg(format!("http://{address}{path}"))
        .output()
        .expect("this bench needs wrk: apt-get install wrk");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("Non-2xx"), "requests were refused:\n{text}");
    let after = |word: &str| {
        let line =
            text.lines().find(|line| line.trim_start().starts_with(word)).unwrap_or_else(|| panic!("{text}"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    Measured { per_second: after("Requests/sec:").parse().unwrap(), p50: after("50%"), p99: after("99%") }
}

fn show(name: &str, measured: &Measured, events: usize) {
    let rate = measured.per_second * events as f64;
    println!("{name:<44} {rate:>10.0} events/s   p50 {:>8}   p99 {:>8}", measured.p50, measured.p99);
}

/// Appends the events of these bodies to a store from as many tasks as `wrk` has connections; returns events per second.
fn direct(bodies: &[Value], seconds: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Arc::new(EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), Env::system()).unwrap());
    let env = Env::system();
    let mut parser = pulsestream_core::event::EventParser::new(
        env.clone(),
        pulsestream_core::settings::IngestSettings::default().rules(pulsestream_core::event::Dialect::V1),
        BATCH_EVENTS,
    );
    let mut events_of = |body: &Value| -> Vec<Event> {
        let batch = parser.batch(body.to_string().as_bytes(), BatchForm::Envelope).unwrap();
        batch.events.into_iter().map(Result::unwrap).collect()
    };
    let templates: Arc<[Vec<Event>]> = bodies.iter().map(&mut events_of).collect();
    let runtime = one_core();
    let (stored, started) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let tasks = (0..BATCH_CONNECTIONS).map(|task| {
        let (store, env, templates, stored) = (store.clone(), env.clone(), templates.clone(), stored.clone());
        runtime.spawn(async move {
            let mut turns = (0..templates.len()).cycle().skip(task);
            while started.elapsed() < Duration::from_secs(seconds) {
                let templates = &templates[turns.next().unwrap()];
                let ids = env.uuids_v7(templates.len()).unwrap().into_iter().map(EventId::from_u128);
                let events = ids.zip(templates).map(|(id, template)| {
                    let now = env.now();
                    Event { id, timestamp: now, received_at: now, ..template.clone() }
                });
                let tenant = TenantId::from_name("bench");
                let outcomes =
                    store.append(tenant, events.collect(), AppendOptions::default()).await.unwrap();
                stored.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        runtime.block_on(task).unwrap();
    }
    let rate = stored.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    runtime.block_on(store.close()).unwrap();
    rate
}

fn has_one_core() -> bool {
    std::env::var("CORES").as_deref() != Ok("all")
}

/// Keeps this process to the first core, with all threads that it will start.
fn take_one_core() {
    let process = std::process::id().to_string();
    let done = Command::new("taskset").args(["-c", "-p", "0", &process]).stdout(Stdio::null()).status();
    assert!(
        done.expect("this bench needs taskset, of util-linux").success(),
        "there is no first core to take"
    );
}

fn rates(seconds: u64) {
    if has_one_core() {
        take_one_core();
    }
    let (single, many) = (vec![event(&Random::new(1))], batches(BATCH_BODIES, BATCH_EVENTS));
    println!(
        "an event has about {} bytes of JSON, a batch {BATCH_EVENTS} events; {seconds} s each",
        many[0].to_string().len() / BATCH_EVENTS
    );
    let plain = one_core();
    let address = listen(&plain, bare());
    let bare_single = wrk(address, SINGLE, "-", &single, CONNECTIONS, seconds);
    show("single, a handler that only parses", &bare_single, 1);
    let bare_batch = wrk(address, BATCH, "-", &many, BATCH_CONNECTIONS, seconds);
    show("batch, a handler that only parses", &bare_batch, BATCH_EVENTS);
    drop(plain);
    let folder = tempfile::tempdir().unwrap();
    let runtime = one_core();
    let (ps, app, key) = runtime.block_on(pulsestream(folder.path(), EmbeddedConfig::default()));
    let address = listen(&runtime, app);
    let served_single = wrk(address, SINGLE, &key, &single, CONNECTIONS, seconds);
    show("single, durable", &served_single, 1);
    let served_batch = wrk(address, BATCH, &key, &many, BATCH_CONNECTIONS, seconds);
    show("batch, durable", &served_batch, BATCH_EVENTS);
    runtime.block_on(ps.close()).unwrap();
    drop(runtime);
    let direct = direct(&many, seconds);
    println!("{:<44} {direct:>10.0} events/s", "batch, durable, the store called directly");
    let batch_events = served_batch.per_second * BATCH_EVENTS as f64;
    println!("single: {:.2} of the bare handler", served_single.per_second / bare_single.per_second);
    println!("batch:  {:.2} of the store called directly", batch_events / direct);
}

fn resident_mib() -> u64 {
    let text = std::fs::read("/proc/self/statm").unwrap();
    let pages = String::from_utf8(text).unwrap().split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    (pages * 4_096) >> 20
}

/// Answers by what they mean, each with the time it took.
#[derive(Default)]
struct Answers {
    sent: AtomicU64,
    accepted: Mutex<Vec<Duration>>,
    refused: Mutex<Vec<Duration>>,
    /// The server refused it and ended the connection before the client had read so.
    cut: AtomicU64,
    other: AtomicU64,
}

impl Answers {
    fn add(&self, status: Option<u16>, took: Duration) {
        match status {
            Some(200) => self.accepted.lock().unwrap().push(took),
            Some(429 | 503) => self.refused.lock().unwrap().push(took),
            None => drop(self.cut.fetch_add(1, Ordering::Relaxed)),
            Some(_) => drop(self.other.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn counts(&self) -> (u64, u64) {
        (self.accepted.lock().unwrap().len() as u64, self.refused.lock().unwrap().len() as u64)
    }
}

fn show_times(name: &str, times: &Mutex<Vec<Duration>>) {
    let mut times = times.lock().unwrap();
    times.sort_unstable();
    let at = |part: f64| times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1)));
    if let (Some(half), Some(most)) = (at(0.5), at(0.99)) {
        println!("{name:<24} {:>8}   p50 {half:>9.1?}   p99 {most:>9.1?}", times.len());
    }
}

fn request_bytes(address: SocketAddr, path: &str, key: &str, body: &Value) -> Arc<Vec<u8>> {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Arc::new((head + &body).into_bytes())
}

/// A client with one connection, which it makes anew when the server ended it.
struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: vec![0; 32 << 10] }
    }

    /// Sends a request and reads the answer to its end; `None` when the connection ended before that.
    async fn exchange(&mut self, request: &[u8]) -> Option<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await.ok()?,
        };
        // A server that refuses answers before it has read everything: what it said can be read all the same.
        let is_sent = stream.write_all(request).await.is_ok();
        let mut length = 0;
        loop {
            match stream.read(&mut self.buffer[length..]).await {
                Ok(more) if more > 0 => length += more,
                _ => return None,
            }
            let text = std::str::from_utf8(&self.buffer[..length]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let expected = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == expected.parse::<usize>().unwrap() {
                let ends = !is_sent || head.contains("connection: close");
                let status = text[9..12].parse().unwrap();
                self.stream = (!ends).then_some(stream);
                return Some(status);
            }
        }
    }
}

/// Sends a request on a connection of its own whenever one is due, until the semaphore is closed.
async fn send_when_due(
    address: SocketAddr,
    request: Arc<Vec<u8>>,
    due: Arc<Semaphore>,
    answers: Arc<Answers>,
) {
    let mut client = Client::new(address);
    while let Ok(permit) = due.acquire().await {
        permit.forget();
        answers.sent.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let status = client.exchange(&request).await;
        answers.add(status, started.elapsed());
    }
}

/// Sends an event every 50 ms, until it is aborted: what a tenant notices of the noise of another.
async fn send_quietly(address: SocketAddr, request: Arc<Vec<u8>>, answers: Arc<Answers>) {
    let mut client = Client::new(address);
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        let started = Instant::now();
        let status = client.exchange(&request).await;
        answers.add(status, started.elapsed());
    }
}

/// Registers another tenant and returns its key.
async fn another_tenant(ps: &PulseStream) -> String {
    let request = RegisterTenant {
        name: "Quiet".to_owned(),
        slug: "quiet".to_owned(),
        contact_email: "owner@quiet.example".to_owned(),
        billing_email: None,
        subscription_tier: None,
        timezone: None,
    };
    let made = ps.accounts().register_tenant(&request, &Origin::default()).await.unwrap();
    made.api_key.expose().to_owned()
}

fn overload(seconds: u64) {
    const EVENTS: usize = 50;
    const SENDERS: usize = 2_048;
    let bodies = batches(1, EVENTS);
    let folder = tempfile::tempdir().unwrap();
    let runtime = one_core();
    // A small cache is full soon: what grows after that is no cache.
    let config = EmbeddedConfig { cache_bytes: 32 << 20, ..EmbeddedConfig::default() };
    let (ps, app, key) = runtime.block_on(pulsestream(folder.path(), config));
    let address = listen(&runtime, app);
    let capacity = wrk(address, BATCH, &key, &bodies, CONNECTIONS, 5).per_second;
    let quiet_key = runtime.block_on(another_tenant(&ps));
    let before = ps.ingest().counts().stored;
    let rate = 5.0 * capacity;
    println!(
        "{capacity:.0} batches of {EVENTS} events per second are what it can do; now {rate:.0} arrive, for {seconds} s"
    );
    let request = request_bytes(address, BATCH, &key, &bodies[0]);
    let quiet_request = request_bytes(address, SINGLE, &quiet_key, &event(&Random::new(2)));
    let (due, answers) = (Arc::new(Semaphore::new(0)), Arc::new(Answers::default()));
    let quiet = Arc::new(Answers::default());
    let mut late = 0_u64;
    let clients = Builder::new_current_thread().enable_all().build().unwrap();
    clients.block_on(async {
        let senders = (0..SENDERS)
            .map(|_| tokio::spawn(send_when_due(address, request.clone(), due.clone(), answers.clone())));
        let senders: Vec<_> = senders.collect();
        let quiet_sender = tokio::spawn(send_quietly(address, quiet_request, quiet.clone()));
        let (started, mut given, mut shown) = (Instant::now(), 0_u64, 0);
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while started.elapsed() < Duration::from_secs(seconds) {
            tick.tick().await;
            let wanted = (started.elapsed().as_secs_f64() * rate) as u64;
            // Beyond what waits for a free connection, an arrival finds none and goes away.
            let room = (SENDERS - due.available_permits().min(SENDERS)) as u64;
            let now = (wanted - given).min(room);
            late += wanted - given - now;
            given = wanted;
            due.add_permits(usize::try_from(now).unwrap());
            if started.elapsed().as_secs() / 5 > shown {
                shown = started.elapsed().as_secs() / 5;
                let (accepted, refused) = answers.counts();
                println!(
                    "  {:>3} s: {accepted:>8} accepted, {refused:>8} refused, {} MiB resident",
                    shown * 5,
                    resident_mib()
                );
            }
        }
        due.close();
        for sender in senders {
            sender.await.unwrap();
        }
        quiet_sender.abort();
    });
    let sent = answers.sent.load(Ordering::Relaxed);
    let ((accepted, refused), (quiet_accepted, quiet_refused)) = (answers.counts(), quiet.counts());
    let cut = answers.cut.load(Ordering::Relaxed);
    println!(
        "{sent} batches were sent ({late} more found no free connection): {accepted} accepted, {refused} refused, \
         {cut} refused by the end of the connection"
    );
    show_times("accepted", &answers.accepted);
    show_times("refused", &answers.refused);
    show_times("the other tenant", &quiet.accepted);
    println!("{quiet_refused} events of the other tenant were refused");
    runtime.block_on(ps.close()).unwrap();
    // The last event of the other tenant may have been stored without anybody there to read the answer.
    let stored = ps.ingest().counts().stored - before - quiet_accepted;
    println!("{stored} events are stored, {} were accepted", accepted * EVENTS as u64);
    assert_eq!(
        (accepted + refused + cut, answers.other.load(Ordering::Relaxed)),
        (sent, 0),
        "every batch has an answer"
    );
    assert!(stored - accepted * EVENTS as u64 <= 1, "what is accepted is stored, and nothing else is");
}

fn main() {
    let is_overload = std::env::args().any(|argument| argument == "overload");
    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok());
    if is_overload { overload(seconds.unwrap_or(60)) } else { rates(seconds.unwrap_or(5)) }
}
