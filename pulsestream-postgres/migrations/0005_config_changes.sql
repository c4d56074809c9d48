-- The log of changes to rules, channels, silences and routing. `record` holds the whole entry, without secrets.

create table {schema}.config_changes (
    tenant_id uuid not null,
    revision bigint not null,
    at timestamptz not null,
    object text collate "C" not null,
    -- All zeros for the routing, of which a tenant has one.
    object_id uuid not null,
    record jsonb not null,
    primary key (tenant_id, revision)
);
create index config_changes_object on {schema}.config_changes (tenant_id, object, object_id, revision);
create index config_changes_at on {schema}.config_changes (tenant_id, at);

alter table {schema}.config_changes enable row level security;
create policy tenant on {schema}.config_changes
    using (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid));
