//! Signing in, staying signed in, signing out.

use super::even::NOBODY;
use super::verify::is_good;
use super::{AuthService, MAX_ATTEMPTS, too_busy, user_agent};
use crate::auth::jwt::{AccessClaims, TokenUse};
use crate::auth::opaque::{OpaqueToken, OpaqueUse};
use crate::auth::password::MAX_PASSWORD_BYTES;
use crate::auth::permission::Action;
use crate::auth::request::{Login, Tokens};
use crate::auth::secret::{Secret, SecretBytes};
use crate::auth::throttle::Purpose;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{SessionId, TenantId};
use crate::ports::auth::{Origin, Principal};
use crate::ports::identity::{
    AuditAction, AuditRecord, IdentityConflict, IdentityOutcome, IdentityWrite, SessionEnd, SessionRecord,
    SessionState, SpentToken, TenantRecord, TenantStatus, UserLookup, UserRecord, unique_form,
};
use crate::time::Timestamp;

/// Who was found for a sign-in, and whether the stored hash should be made again.
struct SignIn {
    tenant: TenantRecord,
    user: UserRecord,
    outdated: bool,
}

impl AuthService {
    /// Signs a user in.
    ///
    /// An unknown user, a wrong password, a disabled account and an unknown tenant have the same answer, and with a timer the same
    /// time.
    ///
    /// # Errors
    /// `Unauthenticated`; `RateLimited` with the time to wait after too many failures; `Unavailable` when too many passwords
    /// are being checked.
    pub async fn login(&self, request: &Login, origin: &Origin) -> Result<Tokens> {
        let started = self.0.env.monotonic();
        let (slug, email) = (unique_form(&request.tenant_slug), unique_form(&request.email));
        let attempt = self.0.throttle.attempt(Purpose::SignIn, &[&slug, &email], origin.address)?;
        let sign_in = match self.check_sign_in(&slug, &email, &request.password, origin).await {
            Ok(Some(sign_in)) => sign_in,
            Ok(None) => {
                self.even_out(started).await;
                return Err(Error::new(
                    ErrorKind::Unauthenticated,
                    "auth.login",
                    "the tenant, the e-mail address or the password is wrong",
                ));
            }
            Err(error) => {
                attempt.undo();
                return Err(error);
            }
        };
        attempt.succeed();
        if sign_in.outdated {
            self.rehash(&sign_in, &request.password).await?;
        }
        self.start_session(sign_in.tenant.id, &sign_in.user, request.remember_me, origin).await
    }

    async fn check_sign_in(
        &self,
        slug: &str,
        email: &str,
        password: &Secret,
        origin: &Origin,
    ) -> Result<Option<SignIn>> {
        if password.expose().len() > MAX_PASSWORD_BYTES {
            return Ok(None);
        }
        let tenant = self.0.store.tenant_by_slug(slug).await?;
        let tenant_id = tenant.as_ref().map_or(NOBODY, |tenant| tenant.id);
        let lookup = [UserLookup::Email(email.to_owned())];
        let user = self.0.store.users(tenant_id, &lookup).await?.pop().flatten();
        let verified = self.0.hasher.verify(password, user.as_ref().map(|user| &user.password_hash)).await?;
        let now = self.0.env.now();
        let tenant = tenant.filter(|tenant| tenant.status == TenantStatus::Active);
        let usable = |user: &UserRecord| user.is_active && user.password_expires_at.is_none_or(|at| now < at);
        let target = user.as_ref().map(|user| format!("user:{}", user.id));
        match tenant.zip(user.filter(|user| verified.matches && usable(user))) {
            Some((tenant, user)) => Ok(Some(SignIn { tenant, user, outdated: verified.outdated })),
            None => {
                // What was typed as an address is not written down: people type their password there.
                let entry =
                    self.audit_by(AuditAction::SignInFailed, "anonymous".to_owned(), target, origin)?;
                let writes = vec![IdentityWrite::Audit(entry)];
                // A tenant that is being deleted, or was never there, takes no entry, which is no reason for another answer.
                let _ = self.0.store.commit(tenant_id, writes).await?;
                Ok(None)
            }
        }
    }

    /// Stores the password under today's cost. Losing against another change is fine: the next sign-in tries again.
    async fn rehash(&self, sign_in: &SignIn, password: &Secret) -> Result<()> {
        let password_hash = self.0.hasher.hash(password, &self.0.env).await?;
        let user = UserRecord { password_hash, ..sign_in.user.clone() };
        let _ = self.0.store.commit(sign_in.tenant.id, vec![IdentityWrite::PutUser(Box::new(user))]).await?;
        Ok(())
    }

    async fn start_session(
        &self,
        tenant: TenantId,
        user: &UserRecord,
        remember_me: bool,
        origin: &Origin,
    ) -> Result<Tokens> {
        let now = self.0.env.now();
        let session = SessionId::from_u128(self.0.env.uuid_v7()?);
        let token = self.new_refresh_token(tenant, session)?;
        let record = SessionRecord {
            id: session,
            version: 0,
            user: user.id,
            epoch: user.epoch,
            current: token.digest(),
            previous: None,
            remember_me,
            created_at: now,
            expires_at: self.refresh_expiry(now, remember_me, now),
            ended: None,
            address: origin.address.map(|address| address.to_string()),
            user_agent: user_agent(origin),
        };
        let mut writes = self.crowded_out(tenant, user, now).await?;
        let actor = format!("user:{}", user.id);
        let target = Some(format!("session:{session}"));
        writes.extend([
            IdentityWrite::PutSession(Box::new(record.clone())),
            IdentityWrite::RecordLogin(user.id, now),
            IdentityWrite::Audit(self.audit_by(AuditAction::SignedIn, actor, target, origin)?),
        ]);
        self.commit("auth.login", tenant, writes).await?;
        self.tokens(tenant, user, &record, token.text(), now)
    }

    /// Returns what makes room for one more session: dead ones go, then the oldest.
    async fn crowded_out(
        &self,
        tenant: TenantId,
        user: &UserRecord,
        now: Timestamp,
    ) -> Result<Vec<IdentityWrite>> {
        let sessions = self.0.store.sessions_of(tenant, user.id).await?;
        let (mut live, dead): (Vec<_>, Vec<_>) = sessions.into_iter().partition(|session| {
            session.ended.is_none() && session.epoch == user.epoch && now < session.expires_at
        });
        live.sort_unstable_by_key(|session| (session.created_at, session.id));
        let surplus = (live.len() + 1).saturating_sub(self.0.settings.sessions_per_user);
        let gone = dead.into_iter().chain(live.into_iter().take(surplus));
        Ok(gone
            .map(|session| {
                self.0.sessions.forget_key(&(tenant, session.id));
                IdentityWrite::DeleteSession(session.id)
            })
            .collect())
    }

    /// Exchanges a refresh token for new tokens.
    ///
    /// Each token works once. Shown again within `refresh_grace` it answers with the same successor, for a client whose reply
    /// was lost; shown again later it ends the session, because somebody else may hold the family.
    ///
    /// # Errors
    /// `Unauthenticated`.
    pub async fn refresh(&self, refresh_token: &Secret, origin: &Origin) -> Result<Tokens> {
        let token = OpaqueToken::parse(OpaqueUse::Refresh, refresh_token.expose()).ok_or_else(refused)?;
        let session = SessionId::from_u128(token.id);
        let digest = token.digest();
        let successor = self.new_refresh_token(token.tenant, session)?;
        for _ in 0..MAX_ATTEMPTS {
            let state =
                self.0.store.session(token.tenant, session).await?.filter(is_good).ok_or_else(refused)?;
            let now = self.0.env.now();
            if now >= state.session.expires_at {
                return Err(refused());
            }
            if state.session.current == digest {
                match self.rotate(&state, &token, &successor, now).await? {
                    Ok(record) => {
                        return self.tokens(token.tenant, &state.user, &record, successor.text(), now);
                    }
                    Err(IdentityConflict::Version) => continue,
                    Err(_) => return Err(refused()),
                }
            }
            let spent = state.session.previous.as_ref().filter(|spent| spent.digest == digest);
            if let Some(spent) = spent.filter(|spent| now.since(spent.at) < self.0.settings.refresh_grace) {
                let secret = SecretBytes::new(token.seal_successor(spent.sealed_successor.expose()));
                let same = OpaqueToken { secret, ..successor };
                return self.tokens(token.tenant, &state.user, &state.session, same.text(), now);
            }
            if self.end_session(&state, SessionEnd::TokenReused, AuditAction::RefreshReused, origin).await? {
                return Err(refused());
            }
        }
        Err(too_busy("auth.refresh"))
    }

    async fn rotate(
        &self,
        state: &SessionState,
        token: &OpaqueToken,
        successor: &OpaqueToken,
        now: Timestamp,
    ) -> Result<std::result::Result<SessionRecord, IdentityConflict>> {
        let session = &state.session;
        let record = SessionRecord {
            current: successor.digest(),
            previous: Some(SpentToken {
                digest: token.digest(),
                sealed_successor: SecretBytes::new(token.seal_successor(successor.secret.expose())),
                at: now,
            }),
            expires_at: self.refresh_expiry(now, session.remember_me, session.created_at),
            ..session.clone()
        };
        let writes = vec![
            IdentityWrite::PutSession(Box::new(record.clone())),
            IdentityWrite::RecordActivity(state.user.id, now),
        ];
        let outcome = self.0.store.commit(state.tenant.id, writes).await?;
        // The remembered session has the expiry of before.
        self.0.sessions.forget_key(&(state.tenant.id, session.id));
        Ok(match outcome {
            IdentityOutcome::Committed => Ok(record),
            IdentityOutcome::Conflict(conflict) => Err(conflict),
        })
    }

    /// Signs the caller out: its session and every token of it stop at once.
    ///
    /// # Errors
    /// `Forbidden` for a caller without a session, such as an API key.
    pub async fn logout(&self, actor: &Principal, origin: &Origin) -> Result<()> {
        self.require(actor, Action::WriteOwnProfile, origin).await?;
        let Some(session) = actor.session else {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "auth.logout",
                "only a signed-in user can sign out",
            ));
        };
        for _ in 0..MAX_ATTEMPTS {
            let Some(state) = self.0.store.session(actor.tenant, session).await? else { return Ok(()) };
            if state.session.ended.is_some()
                || self.end_session(&state, SessionEnd::SignedOut, AuditAction::SignedOut, origin).await?
            {
                return Ok(());
            }
        }
        Err(too_busy("auth.logout"))
    }

    /// Ends a session; `false` when it changed meanwhile and must be looked at again.
    async fn end_session(
        &self,
        state: &SessionState,
        end: SessionEnd,
        action: AuditAction,
        origin: &Origin,
    ) -> Result<bool> {
        let (tenant, session) = (state.tenant.id, state.session.id);
        let actor = match end {
            SessionEnd::TokenReused => "anonymous".to_owned(),
            SessionEnd::SignedOut | SessionEnd::Revoked => format!("user:{}", state.user.id),
        };
        let entry = self.audit_by(action, actor, Some(format!("session:{session}")), origin)?;
        let record = SessionRecord { ended: Some(end), ..state.session.clone() };
        let writes = vec![
            IdentityWrite::PutSession(Box::new(record)),
            IdentityWrite::Audit(AuditRecord { detail: Some(format!("user:{}", state.user.id)), ..entry }),
        ];
        let outcome = self.0.store.commit(tenant, writes).await?;
        self.0.sessions.forget_key(&(tenant, session));
        Ok(matches!(
            outcome,
            IdentityOutcome::Committed | IdentityOutcome::Conflict(IdentityConflict::TenantGone)
        ))
    }

    fn new_refresh_token(&self, tenant: TenantId, session: SessionId) -> Result<OpaqueToken> {
        Ok(OpaqueToken {
            usage: OpaqueUse::Refresh,
            tenant,
            id: session.as_u128(),
            secret: SecretBytes::random(&self.0.env)?,
        })
    }

    fn refresh_expiry(&self, now: Timestamp, remember_me: bool, created_at: Timestamp) -> Timestamp {
        let settings = &self.0.settings;
        let idle = if remember_me { settings.remember_me_ttl } else { settings.refresh_ttl };
        now.plus(idle).min(created_at.plus(settings.session_max_age))
    }

    fn tokens(
        &self,
        tenant: TenantId,
        user: &UserRecord,
        session: &SessionRecord,
        refresh_token: Secret,
        now: Timestamp,
    ) -> Result<Tokens> {
        let settings = &self.0.settings;
        let claims = AccessClaims {
            iss: settings.issuer.clone(),
            aud: settings.audience.clone(),
            exp: now.plus(settings.access_ttl).as_seconds(),
            nbf: now.as_seconds(),
            iat: now.as_seconds(),
            jti: SessionId::from_u128(self.0.env.uuid_v7()?),
            sub: user.id,
            tenant,
            role: user.role,
            typ: TokenUse::Access,
            sid: session.id,
        };
        Ok(Tokens {
            access_token: self.0.ring.codec().sign(&claims)?,
            refresh_token,
            expires_in: settings.access_ttl,
            refresh_expires_in: session.expires_at.since(now),
            user_id: user.id,
            tenant_id: tenant,
            email: user.email.clone(),
            role: user.role,
        })
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::Unauthenticated, "auth.refresh", "the refresh token is not valid")
}
