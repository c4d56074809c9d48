-- Rules, alerts, silences, channels, routes, deliveries and checkpoints. `record` holds the whole document; the columns beside it
-- are what constraints, look-ups and people need.

create table {schema}.rules (
    tenant_id uuid not null,
    rule_id uuid not null,
    version bigint not null,
    name text collate "C" not null,
    is_active boolean not null,
    created_at timestamptz not null,
    record jsonb not null,
    primary key (tenant_id, rule_id),
    constraint rules_name unique (tenant_id, name)
);
create index rules_created on {schema}.rules (tenant_id, created_at, rule_id);

create table {schema}.channels (
    tenant_id uuid not null,
    channel_id uuid not null,
    version bigint not null,
    name text collate "C" not null,
    record jsonb not null,
    primary key (tenant_id, channel_id),
    constraint channels_name unique (tenant_id, name)
);

create table {schema}.silences (
    tenant_id uuid not null,
    silence_id uuid not null,
    version bigint not null,
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    record jsonb not null,
    primary key (tenant_id, silence_id)
);

create table {schema}.routing (
    tenant_id uuid primary key,
    version bigint not null,
    record jsonb not null
);

-- One row for each tenant that has configuration; ascends with every change of it.
create table {schema}.revisions (
    tenant_id uuid primary key,
    partition smallint not null,
    revision bigint not null
);
create index revisions_partition on {schema}.revisions (partition);

create table {schema}.alerts (
    tenant_id uuid not null,
    alert_id uuid not null,
    rule_id uuid not null,
    fingerprint bigint not null,
    state text collate "C" not null,
    severity text collate "C" not null,
    suppressed boolean not null,
    started_at timestamptz not null,
    fired_at timestamptz,
    resolved_at timestamptz,
    record jsonb not null,
    primary key (tenant_id, alert_id)
);
create index alerts_started on {schema}.alerts (tenant_id, started_at, alert_id);
create index alerts_open on {schema}.alerts (tenant_id, started_at, alert_id) where state <> 'resolved';
create index alerts_rule on {schema}.alerts (tenant_id, rule_id, started_at);
create index alerts_resolved on {schema}.alerts (tenant_id, resolved_at) where resolved_at is not null;

create table {schema}.alert_timeline (
    tenant_id uuid not null,
    alert_id uuid not null,
    entry_id uuid not null,
    -- The order of recording.
    number bigint generated always as identity,
    at timestamptz not null,
    record jsonb not null,
    primary key (tenant_id, alert_id, entry_id),
    foreign key (tenant_id, alert_id) references {schema}.alerts on delete cascade
);

create table {schema}.deliveries (
    tenant_id uuid not null,
    delivery_id uuid not null,
    channel_id uuid not null,
    status text collate "C" not null,
    created_at timestamptz not null,
    due_at timestamptz not null,
    finished_at timestamptz,
    lease_token bigint not null default 0,
    lease_holder text,
    lease_expires_at timestamptz,
    record jsonb not null,
    primary key (tenant_id, delivery_id)
);
create index deliveries_created on {schema}.deliveries (tenant_id, created_at, delivery_id);
create index deliveries_finished on {schema}.deliveries (tenant_id, finished_at) where finished_at is not null;
create index deliveries_queue on {schema}.deliveries (coalesce(lease_expires_at, due_at)) where status = 'queued';

create table {schema}.delivery_attempts (
    tenant_id uuid not null,
    delivery_id uuid not null,
    attempt integer not null,
    record jsonb not null,
    primary key (tenant_id, delivery_id, attempt),
    foreign key (tenant_id, delivery_id) references {schema}.deliveries on delete cascade
);

-- How far processors got. It belongs to the installation and not to a tenant.
create table {schema}.checkpoints (
    processor text collate "C" not null,
    partition smallint not null,
    sequence bigint not null,
    -- 32 hexadecimal digits, as the position is written everywhere.
    position text collate "C" not null,
    fencing_token bigint not null,
    state bytea not null,
    primary key (processor, partition)
);

do $$
declare
    name text;
begin
    foreach name in array array['rules', 'channels', 'silences', 'routing', 'revisions', 'alerts', 'alert_timeline',
                                'deliveries', 'delivery_attempts'] loop
        execute format('alter table {schema}.%I enable row level security', name);
        execute format(
            'create policy tenant on {schema}.%I '
            'using (tenant_id = (select nullif(current_setting(''pulsestream.tenant'', true), '''')::uuid)) '
            'with check (tenant_id = (select nullif(current_setting(''pulsestream.tenant'', true), '''')::uuid))', name);
    end loop;
    -- What processors and dispatchers do for all tenants at once.
    foreach name in array array['alerts', 'alert_timeline', 'deliveries', 'delivery_attempts'] loop
        execute format(
            'create policy processor on {schema}.%I '
            'using ((select current_setting(''pulsestream.processor'', true) = ''on'')) '
            'with check ((select current_setting(''pulsestream.processor'', true) = ''on''))', name);
    end loop;
    create policy processor on {schema}.revisions for select
        using ((select current_setting('pulsestream.processor', true) = 'on'));
end
$$;
