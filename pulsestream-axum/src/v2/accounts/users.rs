//! `/api/v2/users`.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use pulsestream_core::ErrorKind;
use pulsestream_core::auth::{RegisterUser, Role, Secret, UserProfile};
use pulsestream_core::id::UserId;
use pulsestream_core::ports::identity::UserQuery;
use pulsestream_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Caller;
use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::input::{Json, Params, Query};
use crate::v2::cursor::{self, Pages, default_limit};

/// The name of a role.
#[derive(Debug, ToSchema)]
#[schema(as = Role, rename_all = "snake_case")]
#[allow(dead_code, reason = "a schema")]
pub(super) enum RoleV2 {
    Viewer,
    Admin,
    Owner,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserV2 {
    #[schema(value_type = String)]
    id: UserId,
    email: String,
    username: Option<String>,
    full_name: String,
    #[schema(value_type = RoleV2)]
    role: Role,
    is_active: bool,
    is_verified: bool,
    /// Whether the password is one that was made up.
    must_change_password: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_login_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_active_at: Option<Timestamp>,
    login_count: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<UserProfile> for UserV2 {
    fn from(user: UserProfile) -> Self {
        Self {
            id: user.id,
            email: user.email,
            username: user.username,
            full_name: user.full_name,
            role: user.role,
            is_active: user.is_active,
            is_verified: user.is_verified,
            must_change_password: user.must_change_password,
            last_login_at: user.last_login_at,
            last_active_at: user.last_active_at,
            login_count: user.login_count,
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// Which users to list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserListQuery {
    /// Part of an address or a name.
    search: Option<String>,
    #[serde(default = "default_limit")]
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    limit: usize,
    /// Where the last page ended, from its `next_cursor`.
    cursor: Option<String>,
}

/// A page of users.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UserPage)]
pub(super) struct UserPageOut {
    users: Vec<UserV2>,
    next_cursor: Option<String>,
    /// How many match on all pages.
    total: usize,
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    uri: Uri,
    Query(query): Query<UserListQuery>,
) -> Answer<Response> {
    let pages = Pages::of(&app, caller.tenant(), "users", &query.search);
    let after: Option<UserId> = pages.read(query.cursor.as_deref())?;
    let asked = UserQuery { search: query.search, after, skip: 0, limit: query.limit };
    let found = app.ps.accounts().list_users(&caller.principal, &asked, &caller.origin).await?;
    // A page that is not full is the last; a full one that is not the only one may be followed by an empty one.
    let is_last = found.users.len() < query.limit || (after.is_none() && found.total == query.limit);
    let last = found.users.last().filter(|_| !is_last).map(|user| user.id);
    let next_cursor = last.map(|id| pages.write(&id)).transpose()?;
    let users = found.users.into_iter().map(UserV2::from).collect();
    let page = UserPageOut { users, next_cursor, total: found.total };
    Ok(cursor::page(&uri, &page, page.next_cursor.as_deref()))
}

pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<UserV2>> {
    let id: UserId = params.id("user_id", unknown)?;
    show(app.ps.accounts().user(&caller.principal, id, &caller.origin).await)
}

pub(super) async fn delete(State(app): State<App>, caller: Caller, params: Params) -> Answer<StatusCode> {
    let id: UserId = params.id("user_id", unknown)?;
    match app.ps.accounts().delete_user(&caller.principal, id, &caller.origin).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

/// A new user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "person@shop.example", "password": "a long enough secret", "full_name": "Some Body"}))]
pub(super) struct UserIn {
    #[schema(min_length = 3, max_length = 254)]
    email: String,
    #[schema(value_type = String, format = Password, max_length = 1024)]
    password: Secret,
    #[schema(min_length = 2, max_length = 100)]
    full_name: String,
    #[schema(min_length = 3, max_length = 50)]
    username: Option<String>,
    #[serde(default = "viewer")]
    #[schema(value_type = RoleV2, default = "viewer")]
    role: Role,
}

const fn viewer() -> Role {
    Role::Viewer
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<UserIn>,
) -> Answer<(StatusCode, axum::Json<UserV2>)> {
    let request = RegisterUser {
        email: body.email,
        confirm_password: body.password.clone(),
        password: body.password,
        full_name: body.full_name,
        username: body.username,
        role: body.role,
    };
    let user = app.ps.accounts().register_user(&caller.principal, &request, &caller.origin).await?;
    Ok((StatusCode::CREATED, axum::Json(user.into())))
}

/// A role.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleIn {
    #[schema(value_type = RoleV2)]
    role: Role,
}

pub(super) async fn change_role(
    State(app): State<App>,
    caller: Caller,
    params: Params,
    Json(body): Json<RoleIn>,
) -> Answer<axum::Json<UserV2>> {
    let id: UserId = params.id("user_id", unknown)?;
    let user = app.ps.accounts().change_role(&caller.principal, id, body.role, &caller.origin).await;
    show(user)
}

pub(super) async fn activate(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<UserV2>> {
    set_active(&app, &caller, &params, true).await
}

pub(super) async fn deactivate(
    State(app): State<App>,
    caller: Caller,
    params: Params,
) -> Answer<axum::Json<UserV2>> {
    set_active(&app, &caller, &params, false).await
}

async fn set_active(
    app: &App,
    caller: &Caller,
    params: &Params,
    is_active: bool,
) -> Answer<axum::Json<UserV2>> {
    let id: UserId = params.id("user_id", unknown)?;
    show(app.ps.accounts().set_user_active(&caller.principal, id, is_active, &caller.origin).await)
}

fn show(user: pulsestream_core::Result<UserProfile>) -> Answer<axum::Json<UserV2>> {
    match user {
        Ok(user) => Ok(axum::Json(user.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

fn unknown() -> Failure {
    Failure::not_found("users.get", "there is no such user")
}
