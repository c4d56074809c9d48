//! `/api/v2/keys`, `/api/v2/users`, `/api/v2/tenant`, `/api/v2/audit`, `/api/v2/usage`.

mod audit;
mod keys;
mod tenant;
mod users;

use pulsestream_core::auth::Action;

use crate::access::Access;
use crate::operation::Routes;

/// Adds the operations on local accounts.
pub(super) fn routes(routes: &mut Routes) {
    let read_keys = Access::May(Action::ReadApiKeys);
    let write_keys = Access::May(Action::WriteApiKeys);
    routes
        .get("/api/v2/keys", read_keys, keys::list)
        .does("Lists API keys, without their secrets, oldest first.")
        .query::<keys::KeyListQuery>()
        .gives::<keys::KeyPageOut>(200)
        .fails(&[400]);
    routes
        .post("/api/v2/keys", write_keys, keys::create)
        .does("Makes an API key; it is shown this once.")
        .takes::<keys::KeyIn>()
        .gives::<keys::NewKeyV2>(201);
    routes
        .get("/api/v2/keys/{key_id}", read_keys, keys::get)
        .does("Returns an API key, without its secret.")
        .gives::<keys::KeyView>(200);
    routes
        .post("/api/v2/keys/{key_id}/rotate", write_keys, keys::rotate)
        .does("Makes the successor of an API key; the old one works a while longer.")
        .takes::<keys::RotateIn>()
        .gives::<keys::NewKeyV2>(201)
        .fails(&[409]);
    routes
        .delete("/api/v2/keys/{key_id}", write_keys, keys::revoke)
        .does("Revokes an API key: it stops working at once.")
        .gives_nothing(204);
    let (read_users, write_users) = (Access::May(Action::ReadUsers), Access::May(Action::WriteUsers));
    routes
        .get("/api/v2/users", read_users, users::list)
        .does("Lists users, oldest first.")
        .query::<users::UserListQuery>()
        .gives::<users::UserPageOut>(200)
        .fails(&[400]);
    routes
        .post("/api/v2/users", write_users, users::create)
        .does("Makes a user.")
        .takes::<users::UserIn>()
        .gives::<users::UserV2>(201)
        .repeatable();
    routes
        .get("/api/v2/users/{user_id}", read_users, users::get)
        .does("Returns a user.")
        .gives::<users::UserV2>(200);
    routes
        .delete("/api/v2/users/{user_id}", write_users, users::delete)
        .does("Deletes a user for good, with its sessions; keys that it made stay.")
        .gives_nothing(204)
        .fails(&[409]);
    routes
        .put("/api/v2/users/{user_id}/role", write_users, users::change_role)
        .does("Changes the role of a user, from the next call on.")
        .takes::<users::RoleIn>()
        .gives::<users::UserV2>(200)
        .fails(&[409]);
    routes
        .post("/api/v2/users/{user_id}/activate", write_users, users::activate)
        .does("Lets a user sign in again.")
        .gives::<users::UserV2>(200);
    routes
        .post("/api/v2/users/{user_id}/deactivate", write_users, users::deactivate)
        .does("Ends the sessions of a user, who cannot sign in any more.")
        .gives::<users::UserV2>(200)
        .fails(&[409]);
    routes
        .get("/api/v2/tenant", Access::May(Action::ReadTenant), tenant::get)
        .does("Returns the tenant.")
        .gives::<tenant::TenantV2>(200);
    routes
        .put("/api/v2/tenant", Access::May(Action::WriteTenant), tenant::update)
        .does("Changes the tenant; what is absent stays.")
        .takes::<tenant::TenantV2In>()
        .gives::<tenant::TenantV2>(200);
    routes
        .delete("/api/v2/tenant", Access::May(Action::DeleteTenant), tenant::delete)
        .does("Deletes the tenant with everything it has: events, rules, alerts, deliveries, users, keys. It cannot be undone.")
        .query::<tenant::DeleteTenantQuery>()
        .gives_nothing(204)
        .fails(&[409]);
    routes
        .get("/api/v2/audit", Access::May(Action::ReadAudit), audit::list)
        .does("Lists what happened to accounts, keys and sessions, and who did it, the latest first.")
        .query::<audit::AuditListQuery>()
        .gives::<audit::AuditPageOut>(200)
        .fails(&[400]);
}

/// Adds the operations that a host with identities of its own has too.
pub(super) fn usage_routes(routes: &mut Routes) {
    routes
        .get("/api/v2/usage", Access::May(Action::ReadUsage), tenant::usage)
        .does("Says what the tenant used of its quotas.")
        .gives::<tenant::UsageOut>(200);
}
