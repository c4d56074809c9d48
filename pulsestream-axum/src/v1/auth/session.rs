//! Signing in, staying signed in, signing out, and coming back without a password.

use axum::extract::State;
use axum::http::StatusCode;
use pulsestream_core::ErrorKind;
use pulsestream_core::auth::{ConfirmReset, Login, Secret};
use serde::Deserialize;
use utoipa::ToSchema;

use super::shapes::{AuthHealth, TokenAnswer};
use crate::access::{Caller, From};
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::Json;
use crate::v1::Message;

/// Asks to sign in.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct LoginIn {
    #[schema(min_length = 3, max_length = 254)]
    email: String,
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 1024)]
    password: Secret,
    #[schema(min_length = 1, max_length = 100)]
    tenant_slug: String,
    #[serde(default)]
    #[schema(default = false)]
    remember_me: bool,
}

pub(super) async fn login(
    State(app): State<App>,
    From(origin): From,
    Json(body): Json<LoginIn>,
) -> Answer<axum::Json<TokenAnswer>> {
    let login = Login {
        email: body.email,
        password: body.password,
        tenant_slug: body.tenant_slug,
        remember_me: body.remember_me,
    };
    Ok(axum::Json(app.ps.accounts().login(&login, &origin).await?.into()))
}

/// Asks for new tokens.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RefreshIn {
    #[schema(value_type = String, min_length = 1, max_length = 4096)]
    refresh_token: Secret,
}

pub(super) async fn refresh(
    State(app): State<App>,
    From(origin): From,
    Json(body): Json<RefreshIn>,
) -> Answer<axum::Json<TokenAnswer>> {
    Ok(axum::Json(app.ps.accounts().refresh(&body.refresh_token, &origin).await?.into()))
}

pub(super) async fn logout(State(app): State<App>, caller: Caller) -> Answer<axum::Json<Message>> {
    app.ps.accounts().logout(&caller.principal, &caller.origin).await?;
    Ok(Message::new("signed out"))
}

/// Asks for a token to set a new password with.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResetRequestIn {
    #[schema(min_length = 3, max_length = 254)]
    email: String,
    #[schema(min_length = 1, max_length = 100)]
    tenant_slug: String,
}

pub(super) async fn request_reset(
    State(app): State<App>,
    From(origin): From,
    Json(body): Json<ResetRequestIn>,
) -> Answer<axum::Json<Message>> {
    let asked = app.ps.accounts().request_password_reset(&body.email, &body.tenant_slug, &origin).await;
    match asked {
        Ok(()) => {}
        // Without a mailer the answer is the same for everybody too.
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            tracing::warn!(%error, "a password reset was asked for and cannot be sent");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Message::new(
        "if the account exists and this server sends e-mail, a message with a token is on its way",
    ))
}

/// Sets a new password.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ResetConfirmIn {
    #[schema(value_type = String, min_length = 1, max_length = 4096)]
    token: Secret,
    #[schema(value_type = String, format = Password, max_length = 1024)]
    new_password: Secret,
    #[schema(value_type = String, format = Password, max_length = 1024)]
    confirm_new_password: Secret,
}

pub(super) async fn confirm_reset(
    State(app): State<App>,
    From(origin): From,
    Json(body): Json<ResetConfirmIn>,
) -> Answer<axum::Json<Message>> {
    let reset = ConfirmReset {
        token: body.token,
        new_password: body.new_password,
        confirm_new_password: body.confirm_new_password,
    };
    app.ps.accounts().confirm_password_reset(&reset, &origin).await.map_err(|error| {
        let is_about_token = error.fields().iter().any(|field| field.code == "invalid_reset_token");
        let failure = Failure::from(error);
        if is_about_token { failure.invalid_as(StatusCode::BAD_REQUEST) } else { failure }
    })?;
    Ok(Message::new("the password is set; sign in with it"))
}

pub(super) async fn health(State(app): State<App>) -> axum::Json<AuthHealth> {
    axum::Json(AuthHealth {
        status: app.health_status().await,
        service: "authentication",
        timestamp: app.ps.env().now(),
        version: env!("CARGO_PKG_VERSION"),
    })
}
