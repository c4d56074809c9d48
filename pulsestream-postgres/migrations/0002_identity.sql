-- Tenants, users, sessions, API keys and the audit log. `record` holds the whole record; the columns beside it are what
-- constraints and look-ups need.

create table {schema}.tenants (
    tenant_id uuid primary key,
    version bigint not null,
    slug_form text collate "C" not null constraint tenants_slug unique,
    status text not null,
    record jsonb not null
);

create table {schema}.users (
    tenant_id uuid not null references {schema}.tenants on delete cascade,
    user_id uuid not null,
    version bigint not null,
    email_form text collate "C" not null,
    username_form text collate "C",
    -- E-mail address, full name and user name in lower case.
    search text[] collate "C" not null,
    record jsonb not null,
    last_login_at timestamptz,
    last_active_at timestamptz,
    login_count bigint not null default 0,
    primary key (tenant_id, user_id),
    constraint users_email unique (tenant_id, email_form),
    constraint users_username unique (tenant_id, username_form)
);

create table {schema}.sessions (
    tenant_id uuid not null references {schema}.tenants on delete cascade,
    session_id uuid not null,
    user_id uuid not null,
    version bigint not null,
    expires_at timestamptz not null,
    record jsonb not null,
    primary key (tenant_id, session_id)
);
create index sessions_user on {schema}.sessions (tenant_id, user_id);
create index sessions_expiry on {schema}.sessions (tenant_id, expires_at);

create table {schema}.api_keys (
    tenant_id uuid not null references {schema}.tenants on delete cascade,
    key_id uuid not null,
    version bigint not null,
    record jsonb not null,
    last_used_at timestamptz,
    primary key (tenant_id, key_id),
    -- A key is shown without its tenant, so its id must say which it is. Ids are random: nobody can find out by trying.
    constraint api_keys_id unique (key_id)
);

create table {schema}.audit_log (
    tenant_id uuid not null references {schema}.tenants on delete cascade,
    audit_id uuid not null,
    at timestamptz not null,
    action text not null,
    record jsonb not null,
    primary key (tenant_id, audit_id)
);

-- The secrets of the installation: one row.
create table {schema}.keyring (
    singleton boolean primary key default true check (singleton),
    version bigint not null,
    record jsonb not null
);

do $$
declare
    name text;
begin
    foreach name in array array['tenants', 'users', 'sessions', 'api_keys', 'audit_log'] loop
        execute format('alter table {schema}.%I enable row level security', name);
        execute format(
            'create policy tenant on {schema}.%I '
            'using (tenant_id = (select nullif(current_setting(''pulsestream.tenant'', true), '''')::uuid)) '
            'with check (tenant_id = (select nullif(current_setting(''pulsestream.tenant'', true), '''')::uuid))', name);
        -- For look-ups that find out which tenant it is.
        execute format(
            'create policy processor on {schema}.%I for select '
            'using ((select current_setting(''pulsestream.processor'', true) = ''on''))', name);
    end loop;
end
$$;
