//! `pulsestream serve`: the HTTP API.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use pulsestream::{PulseStream, Unlimited};
use pulsestream_axum::ApiConfig;
use pulsestream_core::{Error, ErrorKind, Result};
use tokio::net::TcpListener;

use crate::args::{RateLimitArg, ServeArgs};
use crate::backup::Control;
use crate::settings::ProgramSettings;
use crate::{admin, open};

/// Runs the command until it is told to stop.
pub(crate) async fn run(args: Box<ServeArgs>) -> Result<ExitCode> {
    let mut settings = ProgramSettings::read(args.store.config.as_deref())?;
    let mut builder = PulseStream::builder();
    match args.rate_limit {
        Some(RateLimitArg::Off) => builder = builder.with_rate_limiter(Arc::new(Unlimited)),
        Some(RateLimitArg::PerMinute(limit)) => {
            settings.ingest.rate_limit_per_minute = limit;
            settings.ingest.rate_limit_burst = settings.ingest.rate_limit_burst.max(limit.saturating_mul(2));
        }
        None => {}
    }
    args.identity.restrict(&mut settings.accounts);
    builder = args.identity.apply(args.outbound.apply(settings.apply(builder))?)?;
    let mut config = ApiConfig { environment: args.environment.clone(), ..ApiConfig::default() };
    for proxy in &args.trusted_proxy {
        config.trusted_proxies.push(proxy.parse()?);
    }
    let queue = if args.queue { "&queue=redis" } else { "" };
    let url = format!("{}{queue}", open::url(&args.store));
    let ps = builder.open(&url).await?;
    if let (Some(tenant), Some(email)) = (&args.admin_tenant, &args.admin_email) {
        admin::ensure(&ps, tenant, email, args.admin_password.as_deref()).await?;
    }
    let listener = listen(args.listen).await?;
    if args.admin_tenant.is_none() {
        admin::offer_setup(&ps, args.listen).await?;
    }
    say!("store     {}", ps.url());
    say!("serving   http://{}", args.listen);
    say!("health    http://{}/health/ready", args.listen);
    let control = Control::start(&ps);
    let served = serve(&ps, listener, config, stop_signal()).await;
    drop(control);
    // What was acknowledged is finished whatever became of the listener.
    ps.close().await?;
    served?;
    Ok(ExitCode::SUCCESS)
}

/// Listens, or says why not.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::new(
            ErrorKind::Unavailable,
            "serve.listen",
            "cannot listen there: choose another place with --listen",
        )
        .with_context("listen", address)
        .with_context("cause", &error)
        .with_source(error)
    })
}

/// Serves until `stop` completes, then finishes the requests under way.
pub(crate) async fn serve(
    ps: &PulseStream,
    listener: TcpListener,
    config: ApiConfig,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let app = pulsestream_axum::router(ps.clone(), config)?;
    let served = pulsestream_axum::serve(listener, app, &ps.settings().http, stop).await;
    if served.cut > 0 {
        complain!("stopped: {} connections did not end in time and were cut", served.cut);
    }
    Ok(())
}

/// Completes at Ctrl-C or SIGTERM.
pub(crate) async fn stop_signal() {
    let interrupt = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "Ctrl-C cannot be listened for");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    () = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "SIGTERM cannot be listened for");
                interrupt.await;
            }
        }
    }
    #[cfg(not(unix))]
    interrupt.await;
    complain!("stopping: requests under way are finished");
}
