//! The first tenant and its owner.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use pulsestream::PulseStream;
use pulsestream_core::Result;
use pulsestream_core::auth::{EnsureAdmin, EnsuredAdmin, KeyRotation, Secret};

use crate::args::{AdminCreateArgs, AdminRotateKeysArgs};
use crate::open;
use crate::settings::ProgramSettings;

/// Runs `pulsestream admin create`.
pub(crate) async fn create(args: AdminCreateArgs) -> Result<ExitCode> {
    let settings = ProgramSettings::read(args.store.config.as_deref())?;
    let ps = open::open(&args.store, PulseStream::builder().without_background(), &settings).await?;
    let outcome = ensure(&ps, &args.tenant, &args.email, args.password.as_deref()).await;
    ps.close().await?;
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `pulsestream admin rotate-keys`.
pub(crate) async fn rotate_keys(args: AdminRotateKeysArgs) -> Result<ExitCode> {
    let settings = ProgramSettings::read(args.store.config.as_deref())?;
    let ps = open::open_existing("admin.rotate_keys", &args.store, &settings).await?;
    let rotation = if args.immediately { KeyRotation::Immediate } else { KeyRotation::Graceful };
    let outcome = ps.accounts().rotate_signing_key(rotation).await;
    ps.close().await?;
    outcome?;
    let said = if args.immediately {
        "the signing key is replaced; every access token given so far has ended"
    } else {
        "the signing key is replaced; access tokens given so far live out their time"
    };
    say!("{said}");
    Ok(ExitCode::SUCCESS)
}

/// Prints a link that makes the first administrator, when there is nobody yet.
pub(crate) async fn offer_setup(ps: &PulseStream, listen: SocketAddr) -> Result<()> {
    if let Some(setup) = ps.accounts().open_setup().await? {
        // Nobody is at the address that stands for all.
        let host = match listen.ip() {
            IpAddr::V4(address) if address.is_unspecified() => IpAddr::from(Ipv4Addr::LOCALHOST),
            IpAddr::V6(address) if address.is_unspecified() => IpAddr::from(Ipv6Addr::LOCALHOST),
            address => address,
        };
        let place = SocketAddr::new(host, listen.port());
        say!("setup     http://{place}/setup#{}", setup.token.expose());
        say!("          makes the first administrator; it works once, until {}", setup.expires_at);
    }
    Ok(())
}

/// Sees to it that the tenant and its owner exist, and prints what is shown only once.
pub(crate) async fn ensure(ps: &PulseStream, slug: &str, email: &str, password: Option<&str>) -> Result<()> {
    let request = EnsureAdmin {
        tenant_name: slug.to_owned(),
        tenant_slug: slug.to_owned(),
        email: email.to_owned(),
        full_name: "Administrator".to_owned(),
        password: password.map(Secret::new),
    };
    match ps.accounts().ensure_admin(&request).await? {
        EnsuredAdmin::Created { tenant, owner, temporary_password, api_key } => {
            say!("tenant    {} ({})", tenant.slug, tenant.id);
            say!("owner     {}", owner.email);
            if let Some(password) = temporary_password {
                say!("password  {}   (change it after the first sign-in)", password.expose());
            }
            if let Some(key) = api_key {
                say!("api key   {}   (shown this once)", key.expose());
            }
        }
        EnsuredAdmin::Exists { tenant, .. } => {
            say!("tenant    {} ({}) has this owner already; nothing was changed", tenant.slug, tenant.id);
        }
    }
    Ok(())
}
