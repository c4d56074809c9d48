//! `pulsestream demo`: a synthetic shop with a planted incident, live.

mod traffic;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use pulsestream::{PulseStream, Tenant, Unlimited};
use pulsestream_axum::ApiConfig;
use pulsestream_core::alerting::{Channel, ChannelConfig, ChannelRef, Rule, RuleExpression};
use pulsestream_core::auth::{CreateApiKey, EnsureAdmin, EnsuredAdmin, Role, Scopes, Secret};
use pulsestream_core::event::JsonObject;
use pulsestream_core::id::{ChannelId, RuleId, TenantId, derive_uuid};
use pulsestream_core::ports::auth::{Origin, Principal, Subject};
use pulsestream_core::ports::event_store::AppendOptions;
use pulsestream_core::time::TimeRange;
use pulsestream_core::{ErrorKind, Result};

use self::traffic::Traffic;
use crate::args::DemoArgs;
use crate::serve;
use crate::terminal::TerminalNotifier;

/// How far the history goes back.
const HISTORY: Duration = Duration::from_secs(24 * 3_600);
/// When the incident of the history was, before now.
const INCIDENT_AGO: (Duration, Duration) = (Duration::from_secs(40 * 60), Duration::from_secs(25 * 60));
/// When the live incident is, after the start.
const INCIDENT_AFTER: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(75));
const BATCH_EVENTS: usize = 2_000;

/// The rules of the shop: name and expression.
const RULES: [(&str, &str); 3] = [
    (
        "Payments fail",
        "count[severity >= 'error'] / count > 0.2 over 1m where source.service = 'payment' for 10s",
    ),
    ("Checkout is slow", "p95(metrics.response_time_ms) > 1500 over 5m where source.service = 'checkout'"),
    (
        "Many failed logins",
        "count > 50 over 5m where source.endpoint = '/login' and metrics.status_code >= 400",
    ),
];

/// Runs the demo until it is told to stop.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    let terminal = ChannelConfig::Custom { kind: "terminal".into(), settings: JsonObject::default() };
    let channel_id = ChannelId::from_u128(derive_uuid(b"pulsestream.demo", b"terminal"));
    let folder = args.store.is_none().then(traffic::temporary_folder).transpose()?;
    let store =
        args.store.clone().or_else(|| folder.as_ref().map(|folder| folder.path().display().to_string()));
    let ps = PulseStream::builder()
        .with_rate_limiter(Arc::new(Unlimited))
        .with_notifier(Arc::new(TerminalNotifier))
        .with_server_channel(Channel::new(channel_id, "terminal", terminal))
        .open(store.as_deref().unwrap_or("memory:"))
        .await?;
    let outcome = run_on(&ps, &args).await;
    ps.close().await?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

async fn run_on(ps: &PulseStream, args: &DemoArgs) -> Result<()> {
    let (tenant, key) = account(ps).await?;
    let shop = ps.tenant(tenant);
    let now = ps.env().now();
    let range = TimeRange::last(HISTORY, now);
    let incident = TimeRange::new(now.minus(INCIDENT_AGO.0), now.minus(INCIDENT_AGO.1));
    make_rules(&shop).await?;
    fill(ps, &shop, Traffic::history(args.seed, range, args.events, incident)).await?;

    let listener = serve::listen(args.listen).await?;
    let base = format!("http://{}", args.listen);
    say!("");
    say!(
        "  A shop with {} events of history; payments failed from {} to {}.",
        args.events,
        incident.start,
        incident.end
    );
    say!(
        "  {} live events a second go on; payments fail again in {} s.",
        args.rate,
        INCIDENT_AFTER.0.as_secs()
    );
    say!("");
    say!("  health    {base}/health/ready");
    say!("  metrics   {base}/metrics");
    say!("  API       {base}/api/v1/openapi.json");
    say!("");
    say!("  Search the failures:");
    say!(
        "  curl -s -H 'X-API-Key: {key}' '{base}/api/v1/ingestion/events/search?service=payment&severity=error&limit=3'",
        key = key.expose()
    );
    say!("");
    say!("  Ctrl-C stops. Alerts:");
    let live = tokio::spawn(traffic::run(shop, args.seed, args.rate, INCIDENT_AFTER));
    let limit = args.seconds.map(Duration::from_secs);
    let stop = async move {
        match limit {
            Some(limit) => tokio::select! {
                () = serve::stop_signal() => {}
                () = tokio::time::sleep(limit) => {}
            },
            None => serve::stop_signal().await,
        }
    };
    let served = serve::serve(
        ps,
        listener,
        ApiConfig { environment: "demo".to_owned(), ..ApiConfig::default() },
        stop,
    )
    .await;
    live.abort();
    served
}

/// Makes the tenant of the demo, or takes the one that is there, and an API key for it.
async fn account(ps: &PulseStream) -> Result<(TenantId, Secret)> {
    let request = EnsureAdmin {
        tenant_name: "Demo shop".to_owned(),
        tenant_slug: "demo-shop".to_owned(),
        email: "owner@shop.example".to_owned(),
        full_name: "Shop Owner".to_owned(),
        password: None,
    };
    match ps.accounts().ensure_admin(&request).await? {
        EnsuredAdmin::Created { tenant, api_key: Some(key), .. } => Ok((tenant.id, key)),
        EnsuredAdmin::Created { tenant, .. } | EnsuredAdmin::Exists { tenant, .. } => {
            let operator = Principal {
                tenant: tenant.id,
                subject: Subject::External("demo".into()),
                role: Some(Role::Owner),
                scopes: None,
                session: None,
                expires_at: None,
            };
            let name = format!("demo {}", ps.env().now());
            let request = CreateApiKey { name, scopes: Scopes::ADMIN, expires_at: None };
            let new = ps.accounts().create_api_key(&operator, &request, &Origin::default()).await?;
            Ok((tenant.id, new.key))
        }
    }
}

async fn make_rules(shop: &Tenant) -> Result<()> {
    for (name, expression) in RULES {
        let expression: RuleExpression = expression.parse()?;
        let id = RuleId::from_u128(derive_uuid(b"pulsestream.demo.rule", name.as_bytes()));
        let mut rule = Rule::new(id, name, expression.kind.clone());
        expression.apply_to(&mut rule);
        rule.channels = vec![ChannelRef::new("terminal")];
        rule.notify_at_once = true;
        match shop.rules().put(rule).await {
            Ok(_) => {}
            // A second run on the same store finds its rules.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Stores the history.
async fn fill(ps: &PulseStream, shop: &Tenant, history: Traffic) -> Result<()> {
    let bar = ProgressBar::new(history.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("history {bar:30} {pos}/{len} events, {per_sec}") {
        bar.set_style(style);
    }
    let mut history = history.peekable();
    while history.peek().is_some() {
        let batch: Vec<_> = history.by_ref().take(BATCH_EVENTS).collect();
        let events = batch.len() as u64;
        ps.event_store().append(shop.id(), batch, AppendOptions::default()).await?;
        bar.inc(events);
    }
    bar.finish_and_clear();
    Ok(())
}
