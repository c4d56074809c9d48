//! Users and their own profiles.

use axum::extract::State;
use pulsestream_core::auth::{ChangePassword, ProfileUpdate, RegisterUser, Role, Secret};
use pulsestream_core::event::JsonObject;
use pulsestream_core::ports::identity::UserQuery;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shapes::{RoleName, UserOut};
use crate::access::Caller;
use crate::app::App;
use crate::failure::Answer;
use crate::input::{Json, Query};
use crate::v1::Message;

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({
    "email": "viewer@shop.example", "password": "a long enough secret", "confirm_password": "a long enough secret",
    "full_name": "Some Body", "role": "viewer"
}))]
pub(crate) struct RegisterUserIn {
    #[schema(min_length = 3, max_length = 254)]
    email: String,
    #[schema(value_type = String, format = Password, max_length = 1024)]
    password: Secret,
    #[schema(value_type = String, format = Password, max_length = 1024)]
    confirm_password: Secret,
    #[schema(min_length = 2, max_length = 100)]
    full_name: String,
    #[schema(min_length = 3, max_length = 50)]
    username: Option<String>,
    #[serde(default = "viewer")]
    #[schema(value_type = RoleName, default = "viewer")]
    role: Role,
}

const fn viewer() -> Role {
    Role::Viewer
}

pub(super) async fn register(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<RegisterUserIn>,
) -> Answer<axum::Json<UserOut>> {
    let request = RegisterUser {
        email: body.email,
        password: body.password,
        confirm_password: body.confirm_password,
        full_name: body.full_name,
        username: body.username,
        role: body.role,
    };
    let user = app.ps.accounts().register_user(&caller.principal, &request, &caller.origin).await?;
    Ok(axum::Json(user.into()))
}

pub(super) async fn profile(State(app): State<App>, caller: Caller) -> Answer<axum::Json<UserOut>> {
    Ok(axum::Json(app.ps.accounts().profile(&caller.principal, &caller.origin).await?.into()))
}

/// Changes to a profile; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ProfileIn {
    #[schema(min_length = 3, max_length = 50)]
    username: Option<String>,
    #[schema(min_length = 2, max_length = 100)]
    full_name: Option<String>,
    #[schema(value_type = Option<Object>)]
    preferences: Option<JsonObject>,
    #[schema(value_type = Option<Object>)]
    notification_preferences: Option<JsonObject>,
}

pub(super) async fn update(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<ProfileIn>,
) -> Answer<axum::Json<UserOut>> {
    let update = ProfileUpdate {
        username: body.username,
        full_name: body.full_name,
        preferences: body.preferences,
        notification_preferences: body.notification_preferences,
    };
    let user = app.ps.accounts().update_profile(&caller.principal, &update, &caller.origin).await?;
    Ok(axum::Json(user.into()))
}

/// A new password for the caller.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ChangePasswordIn {
    #[schema(value_type = String, format = Password, max_length = 1024)]
    current_password: Secret,
    #[schema(value_type = String, format = Password, max_length = 1024)]
    new_password: Secret,
    #[schema(value_type = String, format = Password, max_length = 1024)]
    confirm_new_password: Secret,
}

pub(super) async fn change_password(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<ChangePasswordIn>,
) -> Answer<axum::Json<Message>> {
    let request = ChangePassword {
        current_password: body.current_password,
        new_password: body.new_password,
        confirm_new_password: body.confirm_new_password,
    };
    app.ps.accounts().change_password(&caller.principal, &request, &caller.origin).await?;
    Ok(Message::new("the password is changed; other sessions have ended"))
}

/// Which users to list.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UsersQuery {
    /// How many to pass over.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1000000000, default = 0)]
    skip: usize,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Part of an address or a name.
    search: Option<String>,
}

const fn default_limit() -> usize {
    100
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserListOut {
    users: Vec<UserOut>,
    total: usize,
    page: usize,
    size: usize,
    pages: usize,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<UsersQuery>,
) -> Answer<axum::Json<UserListOut>> {
    let query =
        UserQuery { skip: query.skip, limit: query.limit, search: query.search, ..UserQuery::default() };
    let list = app.ps.accounts().list_users(&caller.principal, &query, &caller.origin).await?;
    Ok(axum::Json(UserListOut {
        users: list.users.into_iter().map(UserOut::from).collect(),
        total: list.total,
        page: list.page,
        size: list.size,
        pages: list.pages,
    }))
}
