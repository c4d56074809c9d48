//! `/api/v1/auth`: accounts.

mod session;
mod shapes;
mod tenant;
mod user;

use pulsestream_core::auth::Action;

use crate::access::Access;
use crate::operation::Routes;
use crate::v1::Message;

/// Adds the operations.
pub(crate) fn routes(routes: &mut Routes) {
    session_routes(routes);
    user_routes(routes);
    tenant_routes(routes);
    routes
        .get("/api/v1/auth/health", Access::Open, session::health)
        .does("Says whether accounts work.")
        .gives::<shapes::AuthHealth>(200);
}

fn session_routes(routes: &mut Routes) {
    routes
        .post("/api/v1/auth/login", Access::Open, session::login)
        .does("Signs a user in.")
        .takes::<session::LoginIn>()
        .gives::<shapes::TokenAnswer>(200)
        .fails(&[401]);
    routes
        .post("/api/v1/auth/refresh", Access::Open, session::refresh)
        .does("Trades a refresh token for new tokens.")
        .takes::<session::RefreshIn>()
        .gives::<shapes::TokenAnswer>(200)
        .fails(&[401]);
    routes
        .post("/api/v1/auth/logout", Access::May(Action::WriteOwnProfile), session::logout)
        .does("Signs the user out: the token stops working at once.")
        .gives::<Message>(200);
    routes
        .post("/api/v1/auth/password-reset/request", Access::Open, session::request_reset)
        .does("Sends a token for a new password to a user, and answers the same for unknown ones.")
        .takes::<session::ResetRequestIn>()
        .gives::<Message>(200);
    routes
        .post("/api/v1/auth/password-reset/confirm", Access::Open, session::confirm_reset)
        .does("Sets a new password with the token that was sent.")
        .takes::<session::ResetConfirmIn>()
        .gives::<Message>(200)
        .fails(&[400]);
}

fn user_routes(routes: &mut Routes) {
    routes
        .post("/api/v1/auth/register/user", Access::May(Action::WriteUsers), user::register)
        .does("Makes a user in the tenant of the caller.")
        .takes::<user::RegisterUserIn>()
        .gives::<shapes::UserOut>(200)
        .fails(&[409]);
    routes
        .get("/api/v1/auth/profile", Access::May(Action::ReadOwnProfile), user::profile)
        .does("Returns the profile of the caller.")
        .gives::<shapes::UserOut>(200);
    routes
        .put("/api/v1/auth/profile", Access::May(Action::WriteOwnProfile), user::update)
        .does("Changes the profile of the caller.")
        .takes::<user::ProfileIn>()
        .gives::<shapes::UserOut>(200)
        .fails(&[409]);
    routes
        .post("/api/v1/auth/change-password", Access::May(Action::WriteOwnProfile), user::change_password)
        .does("Changes the password of the caller, and ends the other sessions.")
        .takes::<user::ChangePasswordIn>()
        .gives::<Message>(200);
    routes
        .get("/api/v1/auth/users", Access::May(Action::ReadUsers), user::list)
        .does("Lists the users of the tenant.")
        .query::<user::UsersQuery>()
        .gives::<user::UserListOut>(200);
}

fn tenant_routes(routes: &mut Routes) {
    routes
        .post("/api/v1/auth/register/tenant", Access::Open, tenant::register)
        .does("Makes a tenant with its first owner and its first API key.")
        .takes::<tenant::RegisterTenantIn>()
        .gives::<tenant::RegisteredTenantOut>(200)
        .fails(&[403, 409]);
    routes
        .get("/api/v1/auth/tenant/profile", Access::May(Action::ReadTenant), tenant::profile)
        .does("Returns the profile of the tenant.")
        .gives::<shapes::TenantOut>(200);
    routes
        .put("/api/v1/auth/tenant/profile", Access::May(Action::WriteTenant), tenant::update)
        .does("Changes the profile of the tenant.")
        .takes::<tenant::TenantIn>()
        .gives::<shapes::TenantOut>(200);
    routes
        .post(
            "/api/v1/auth/tenant/regenerate-api-key",
            Access::May(Action::WriteApiKeys),
            tenant::regenerate_key,
        )
        .does("Replaces the tenant's first API key; the old one stops working at once.")
        .gives::<tenant::NewKeyOut>(200);
}
