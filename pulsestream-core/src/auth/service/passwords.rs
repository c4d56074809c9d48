//! Changing and resetting passwords.

use std::sync::Arc;

use super::even::NOBODY;
use super::{AuthService, MAX_ATTEMPTS, ResetMail, ResetMailer, conflict_error, too_busy};
use crate::auth::opaque::{OpaqueToken, OpaqueUse};
use crate::auth::password::MAX_PASSWORD_BYTES;
use crate::auth::permission::Action;
use crate::auth::request::{ChangePassword, ConfirmReset};
use crate::auth::secret::{Secret, SecretBytes};
use crate::auth::throttle::Purpose;
use crate::auth::validate::Checks;
use crate::error::{Error, ErrorKind, Result};
use crate::id::UserId;
use crate::ports::auth::{Origin, Principal};
use crate::ports::identity::{
    AuditAction, IdentityConflict, IdentityOutcome, IdentityWrite, PendingReset, SessionRecord, TenantRecord,
    TenantStatus, UserLookup, UserRecord, unique_form,
};

impl AuthService {
    /// Changes the caller's password. The caller's session goes on; all others end at once.
    ///
    /// # Errors
    /// `Invalid` for a wrong current password or a refused new one; `RateLimited` after too many wrong ones.
    pub async fn change_password(
        &self,
        actor: &Principal,
        request: &ChangePassword,
        origin: &Origin,
    ) -> Result<()> {
        const OPERATION: &str = "auth.change_password";
        self.require(actor, Action::WriteOwnProfile, origin).await?;
        let id = actor.user()?;
        let tenant = self.tenant_of(actor.tenant, OPERATION).await?;
        let user = self.user_of(actor.tenant, id, OPERATION).await?;
        self.check_new_password(
            OPERATION,
            ("/new_password", &request.new_password),
            ("/confirm_new_password", &request.confirm_new_password),
            &tenant,
            &user,
            Some(&request.current_password),
        )?;
        let account = [&*tenant.id.to_string(), &*id.to_string()];
        let attempt = self.0.throttle.attempt(Purpose::SignIn, &account, origin.address)?;
        match self.is_password(&user, &request.current_password).await {
            Ok(true) => attempt.succeed(),
            Ok(false) => {
                let target = Some(format!("user:{id}"));
                let entry = self.audit(AuditAction::PasswordChangeFailed, actor, target, origin)?;
                self.commit(OPERATION, actor.tenant, vec![IdentityWrite::Audit(entry)]).await?;
                return Err(Error::invalid(
                    OPERATION,
                    "/current_password",
                    "wrong_password",
                    "is not the current password",
                ));
            }
            Err(error) => {
                attempt.undo();
                return Err(error);
            }
        }
        let hash = self.0.hasher.hash(&request.new_password, &self.0.env).await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.user_of(actor.tenant, id, OPERATION).await?;
            if record.password_hash != user.password_hash {
                return Err(conflict_error(OPERATION, IdentityConflict::Version));
            }
            self.set_password(&mut record, &hash);
            let entry =
                self.audit(AuditAction::PasswordChanged, actor, Some(format!("user:{id}")), origin)?;
            let mut writes =
                vec![IdentityWrite::PutUser(Box::new(record.clone())), IdentityWrite::Audit(entry)];
            if let Some(session) = actor.session
                && let Some(state) = self.0.store.session(actor.tenant, session).await?
            {
                let session = SessionRecord { epoch: record.epoch, ..state.session };
                writes.push(IdentityWrite::PutSession(Box::new(session)));
            }
            let outcome = self.0.store.commit(actor.tenant, writes).await?;
            self.forget_user(actor.tenant, id);
            match outcome {
                IdentityOutcome::Committed => return Ok(()),
                IdentityOutcome::Conflict(IdentityConflict::Version) => {}
                IdentityOutcome::Conflict(conflict) => return Err(conflict_error(OPERATION, conflict)),
            }
        }
        Err(too_busy(OPERATION))
    }

    /// Mails a token that sets a new password, if there is such a user. The answer does not tell.
    ///
    /// # Errors
    /// `RateLimited` when one address asks for many; `Unsupported` without a mailer.
    pub async fn request_password_reset(
        &self,
        email: &str,
        tenant_slug: &str,
        origin: &Origin,
    ) -> Result<()> {
        const OPERATION: &str = "auth.request_password_reset";
        let Some(mailer) = self.0.mailer.clone() else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                OPERATION,
                "no mailer for password resets is configured",
            ));
        };
        let (slug, email) = (unique_form(tenant_slug), unique_form(email));
        let started = self.0.env.monotonic();
        // The same delays as for signing in keep a mailbox from being flooded. They count for unknown accounts too.
        let _counted = self.0.throttle.attempt(Purpose::PasswordReset, &[&slug, &email], origin.address)?;
        self.mail_reset(&mailer, &slug, &email, origin).await?;
        self.even_out(started).await;
        Ok(())
    }

    /// Mails a token to a user, if there is such a user. Unknown or not, the same is looked up and one commit is tried.
    async fn mail_reset(
        &self,
        mailer: &Arc<dyn ResetMailer>,
        slug: &str,
        email: &str,
        origin: &Origin,
    ) -> Result<()> {
        let tenant = self.0.store.tenant_by_slug(slug).await?;
        let tenant_id = tenant.as_ref().map_or(NOBODY, |tenant| tenant.id);
        let tenant = tenant.filter(|tenant| tenant.status == TenantStatus::Active);
        for _ in 0..MAX_ATTEMPTS {
            let lookup = [UserLookup::Email(email.to_owned())];
            let user = self.0.store.users(tenant_id, &lookup).await?.pop().flatten();
            let known = tenant.as_ref().zip(user.filter(|user| user.is_active));
            let target = known.as_ref().map(|(_, user)| format!("user:{}", user.id));
            let entry = self.audit_by(AuditAction::ResetRequested, "anonymous".to_owned(), target, origin)?;
            let mut writes = vec![IdentityWrite::Audit(entry)];
            let mut mail = None;
            if let Some((tenant, mut user)) = known {
                let token = OpaqueToken {
                    usage: OpaqueUse::PasswordReset,
                    tenant: tenant.id,
                    id: user.id.as_u128(),
                    secret: SecretBytes::random(&self.0.env)?,
                };
                let expires_at = self.0.env.now().plus(self.0.settings.reset_ttl);
                user.reset = Some(PendingReset { digest: token.digest(), expires_at });
                mail = Some(self.reset_mail(tenant, &user, token.text()));
                writes.push(IdentityWrite::PutUser(Box::new(user)));
            }
            match self.0.store.commit(tenant_id, writes).await? {
                IdentityOutcome::Conflict(IdentityConflict::Version) => {}
                IdentityOutcome::Committed => {
                    send(mailer, mail).await;
                    return Ok(());
                }
                IdentityOutcome::Conflict(_) => return Ok(()),
            }
        }
        Err(too_busy("auth.request_password_reset"))
    }

    /// Sets a new password with a token that was mailed. All sessions of the user end at once.
    ///
    /// # Errors
    /// `Invalid` with code `invalid_reset_token` for a bad, used or old token, or for a refused password.
    pub async fn confirm_password_reset(&self, request: &ConfirmReset, origin: &Origin) -> Result<()> {
        const OPERATION: &str = "auth.confirm_password_reset";
        let token =
            OpaqueToken::parse(OpaqueUse::PasswordReset, request.token.expose()).ok_or_else(bad_token)?;
        let (id, digest) = (UserId::from_u128(token.id), token.digest());
        let tenant = self.0.store.tenant(token.tenant).await?.ok_or_else(bad_token)?;
        let Some(user) = self.resettable(&tenant, id, &digest).await? else {
            let target = Some(format!("user:{id}"));
            let entry = self.audit_by(AuditAction::ResetFailed, "anonymous".to_owned(), target, origin)?;
            let _ = self.0.store.commit(tenant.id, vec![IdentityWrite::Audit(entry)]).await?;
            return Err(bad_token());
        };
        self.check_new_password(
            OPERATION,
            ("/new_password", &request.new_password),
            ("/confirm_new_password", &request.confirm_new_password),
            &tenant,
            &user,
            None,
        )?;
        let hash = self.0.hasher.hash(&request.new_password, &self.0.env).await?;
        for _ in 0..MAX_ATTEMPTS {
            let mut record = self.resettable(&tenant, id, &digest).await?.ok_or_else(bad_token)?;
            self.set_password(&mut record, &hash);
            record.is_verified = true;
            let (email, target) = (record.email.clone(), Some(format!("user:{id}")));
            let entry = self.audit_by(AuditAction::ResetCompleted, format!("user:{id}"), target, origin)?;
            let writes = vec![IdentityWrite::PutUser(Box::new(record)), IdentityWrite::Audit(entry)];
            let outcome = self.0.store.commit(tenant.id, writes).await?;
            self.forget_user(tenant.id, id);
            match outcome {
                IdentityOutcome::Committed => {
                    // Whoever reads the mailbox is the owner: guesses of others delay them no more.
                    let (slug, email) = (unique_form(&tenant.slug), unique_form(&email));
                    self.0.throttle.clear(Purpose::SignIn, &[&slug, &email]);
                    self.0.throttle.clear(Purpose::PasswordReset, &[&slug, &email]);
                    return Ok(());
                }
                IdentityOutcome::Conflict(IdentityConflict::Version) => {}
                IdentityOutcome::Conflict(_) => return Err(bad_token()),
            }
        }
        Err(too_busy(OPERATION))
    }

    /// Returns the user if its pending reset has this digest and has not expired.
    async fn resettable(
        &self,
        tenant: &TenantRecord,
        user: UserId,
        digest: &crate::auth::Digest256,
    ) -> Result<Option<UserRecord>> {
        let now = self.0.env.now();
        let user = self.0.store.users(tenant.id, &[UserLookup::Id(user)]).await?.pop().flatten();
        Ok(user.filter(|user| {
            let pending =
                user.reset.as_ref().is_some_and(|reset| reset.digest == *digest && now < reset.expires_at);
            pending && user.is_active && tenant.status == TenantStatus::Active
        }))
    }

    async fn is_password(&self, user: &UserRecord, password: &Secret) -> Result<bool> {
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        Ok(self.0.hasher.verify(password, Some(&user.password_hash)).await?.matches)
    }

    /// Puts a new password into a record; sessions of the epoch before end with it.
    fn set_password(&self, record: &mut UserRecord, hash: &Secret) {
        let now = self.0.env.now();
        record.password_hash = hash.clone();
        record.password_changed_at = now;
        record.password_expires_at = None;
        record.reset = None;
        record.epoch += 1;
        record.updated_at = now;
    }

    fn check_new_password(
        &self,
        operation: &'static str,
        password: (&str, &Secret),
        again: (&str, &Secret),
        tenant: &TenantRecord,
        user: &UserRecord,
        current: Option<&Secret>,
    ) -> Result<()> {
        let mut checks = Checks::default();
        let context = [&*user.email, user.username.as_deref().unwrap_or(""), &tenant.slug, &tenant.name];
        checks.password(password, again, &self.0.settings.password, &context);
        let differs = current != Some(password.1);
        checks.require(differs, password.0, "unchanged", "must differ from the current password");
        checks.finish(operation)
    }

    fn reset_mail(&self, tenant: &TenantRecord, user: &UserRecord, token: Secret) -> ResetMail {
        ResetMail {
            tenant: tenant.id,
            tenant_name: tenant.name.clone(),
            email: user.email.clone(),
            full_name: user.full_name.clone(),
            token,
            expires_in: self.0.settings.reset_ttl,
        }
    }
}

/// Hands a message over. That it could not be sent is for the operator to know, not for whoever asked.
async fn send(mailer: &Arc<dyn ResetMailer>, mail: Option<ResetMail>) {
    let Some(mail) = mail else { return };
    let tenant = mail.tenant;
    if let Err(error) = mailer.send_reset(mail).await {
        tracing::error!(%tenant, kind = %error.kind(), "a password-reset message could not be handed over");
    }
}

fn bad_token() -> Error {
    Error::invalid(
        "auth.confirm_password_reset",
        "/token",
        "invalid_reset_token",
        "is not valid: it was used, replaced or has expired",
    )
}
