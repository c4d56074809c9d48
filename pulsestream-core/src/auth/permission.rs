//! Who may do what: roles of users, scopes of API keys, and the one table that maps both to actions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// The role of a user within its tenant, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads, writes, and manages keys, users and settings.
    Admin,
    /// Everything, also other owners and the end of the tenant.
    Owner,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Admin, Self::Owner];

    /// Returns the name used in JSON and in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// Returns whether a holder of this role may give `other` to a user, or take it away.
    pub fn may_grant(self, other: Self) -> bool {
        self != Self::Viewer && other <= self
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            Error::invalid("role.parse", "/role", "unknown_role", "must be one of viewer, admin, owner")
        })
    }
}

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What an API key may be used for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Scope {
            $($(#[$doc])* $name,)*
        }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the name, `resource:verb`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

scopes! {
    /// Send events.
    EventsWrite = "events:write";
    /// Search, count and export events, and see the tenant's name and limits.
    EventsRead = "events:read";
    /// See rules, alerts, channels and deliveries.
    AlertsRead = "alerts:read";
    /// Change rules, channels and silences, resolve alerts, replay deliveries.
    AlertsWrite = "alerts:write";
    /// Everything a key may do: the scopes above, and settings, keys and users of the tenant.
    Admin = "admin";
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes. Text form: names, or a wildcard such as `alerts:*`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope: nothing is allowed.
    pub const NONE: Self = Self(0);
    /// Sending events and nothing else: the key for a browser or a device.
    pub const INGEST_ONLY: Self = Self::of(Scope::EventsWrite);
    /// All that a key may do.
    pub const ADMIN: Self = Self::of(Scope::Admin);

    /// Returns the set of one scope.
    pub const fn of(scope: Scope) -> Self {
        Self(1 << scope as u8)
    }

    /// Returns the set with `scope` in it.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | 1 << scope as u8)
    }

    /// Returns whether the set grants `scope`; `admin` grants each.
    pub const fn grants(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8 | 1 << Scope::Admin as u8) != 0
    }

    /// Returns whether each scope of `other` is granted by this set.
    pub fn covers(self, other: Self) -> bool {
        other.iter().all(|scope| self.grants(scope))
    }

    /// Returns whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes in the set, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.0 & (1 << *scope as u8) != 0)
    }

    /// Reads scope names and wildcards: `events:write`, `alerts:*`, `admin`.
    ///
    /// # Errors
    /// `Invalid` for an unknown name; the message lists the valid ones.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut set = Self::NONE;
        for (index, name) in names.into_iter().enumerate() {
            let resource = name.strip_suffix('*').filter(|resource| resource.ends_with(':'));
            let named = Scope::ALL.iter().filter(|scope| match resource {
                Some(resource) => scope.as_str().starts_with(resource),
                None => scope.as_str() == name,
            });
            let found = named.fold(Self::NONE, |found, scope| found.with(*scope));
            if found.is_empty() {
                let valid = Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::invalid(
                    "scopes.parse",
                    format!("/scopes/{index}"),
                    "unknown_scope",
                    format!("must be one of {valid}, events:*, alerts:*"),
                ));
            }
            set = Self(set.0 | found.0);
        }
        Ok(set)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Scope::as_str)).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::as_str))
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::parse(names.iter().map(String::as_str))
            .map_err(|error| serde::de::Error::custom(error.message()))
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $role:expr, $scope:expr;)*) => {
        /// Something that a caller wants to do. Each action names the weakest role and the scope it takes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the name, for messages and the audit log.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Returns the weakest role of a user that may do this.
            pub const fn weakest_role(self) -> Role {
                match self {
                    $(Self::$name => $role,)*
                }
            }

            /// Returns the scope that an API key needs for this; `None`: no key may, it takes a person.
            pub const fn scope(self) -> Option<Scope> {
                match self {
                    $(Self::$name => $scope,)*
                }
            }
        }
    };
}

// The matrix. An action that is not in it does not exist, so nothing is allowed by having been forgotten.
actions! {
    /// Append events.
    WriteEvents = "events.write", Role::Admin, Some(Scope::EventsWrite);
    /// Search, get, count, aggregate, export and follow events, and their statistics.
    ReadEvents = "events.read", Role::Viewer, Some(Scope::EventsRead);
    /// Delete events or process one again.
    ManageEvents = "events.manage", Role::Admin, Some(Scope::Admin);
    /// See rules, alerts, silences, channels and deliveries.
    ReadAlerts = "alerts.read", Role::Viewer, Some(Scope::AlertsRead);
    /// Resolve, acknowledge and silence alerts.
    HandleAlerts = "alerts.handle", Role::Admin, Some(Scope::AlertsWrite);
    /// Create, change, test and delete rules, routes and channels, replay deliveries.
    WriteRules = "rules.write", Role::Admin, Some(Scope::AlertsWrite);
    /// See the configuration of the dashboard.
    ReadDashboard = "dashboard.read", Role::Viewer, Some(Scope::EventsRead);
    /// Change the configuration of the dashboard.
    WriteDashboard = "dashboard.write", Role::Admin, Some(Scope::Admin);
    /// See the tenant profile.
    ReadTenant = "tenant.read", Role::Viewer, Some(Scope::EventsRead);
    /// Change the tenant profile.
    WriteTenant = "tenant.write", Role::Admin, Some(Scope::Admin);
    /// Delete the tenant with all it has.
    DeleteTenant = "tenant.delete", Role::Owner, None;
    /// See usage and quotas.
    ReadUsage = "usage.read", Role::Viewer, Some(Scope::EventsRead);
    /// List API keys, without their secrets.
    ReadApiKeys = "api_keys.read", Role::Admin, Some(Scope::Admin);
    /// Create, rotate and revoke API keys.
    WriteApiKeys = "api_keys.write", Role::Admin, Some(Scope::Admin);
    /// List users.
    ReadUsers = "users.read", Role::Admin, Some(Scope::Admin);
    /// Create users, change their role, deactivate them.
    WriteUsers = "users.write", Role::Admin, None;
    /// Read the audit log.
    ReadAudit = "audit.read", Role::Admin, Some(Scope::Admin);
    /// See the own profile.
    ReadOwnProfile = "profile.read", Role::Viewer, None;
    /// Change the own profile or password, sign out.
    WriteOwnProfile = "profile.write", Role::Viewer, None;
}

impl Action {
    /// Returns whether a user with `role` may do this.
    pub fn allowed_to_role(self, role: Role) -> bool {
        role >= self.weakest_role()
    }

    /// Returns whether an API key with `scopes` may do this.
    pub fn allowed_to_scopes(self, scopes: Scopes) -> bool {
        self.scope().is_some_and(|scope| scopes.grants(scope))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
