-- Events, their identities, and the functions that manage their partitions.
-- {schema} is replaced by the name of the schema, which holds only a-z, 0-9 and _.

-- One row for each event: its identity, and its place in the log of its partition. The identity cannot live in the events
-- table, whose unique constraints would have to include the timestamp.
create table {schema}.event_keys (
    tenant_id uuid not null,
    event_id text collate "C" not null,
    "timestamp" timestamptz not null,
    partition smallint not null,
    -- The transaction that appended it. A reader passes over rows of transactions that are not older than every running one,
    -- so that no row appears behind its back.
    xid bigint not null default (pg_current_xact_id()::text::bigint),
    seq bigint not null,
    primary key (tenant_id, event_id)
);
create index event_keys_log on {schema}.event_keys (partition, xid, seq);

-- Distinguishes the appends of one transaction; the low 20 bits of seq count the events of one append.
create sequence {schema}.append_calls;

create table {schema}.events (
    tenant_id uuid not null,
    "timestamp" timestamptz not null,
    id text collate "C" not null,
    received_at timestamptz not null,
    severity smallint not null,
    event_type text collate "C" not null,
    title text collate "C",
    message text collate "C",
    source_service text collate "C",
    source_endpoint text collate "C",
    source_method text collate "C",
    source_version text collate "C",
    source_environment text collate "C",
    user_id text collate "C",
    session_id text collate "C",
    request_id text collate "C",
    ip_address text collate "C",
    user_agent text collate "C",
    referrer text collate "C",
    tags jsonb,
    response_time_ms double precision,
    status_code integer,
    request_size_bytes bigint,
    response_size_bytes bigint,
    cache_hit boolean,
    error_code text collate "C",
    error_message text collate "C",
    error_type text collate "C",
    error_stack_trace text collate "C",
    payload jsonb,
    metadata jsonb,
    primary key (tenant_id, "timestamp", id)
) partition by range ("timestamp");
create index events_type on {schema}.events (tenant_id, event_type, "timestamp");
create index events_user on {schema}.events (tenant_id, user_id, "timestamp") where user_id is not null;

-- What no other partition takes: imports from long ago, clocks that are wrong.
create table {schema}.events_other partition of {schema}.events default;

-- Row-level security: the second wall. Unset, '' (what a setting becomes after its transaction) and a foreign tenant see nothing.
-- The sub-selects are evaluated once for a statement instead of once for a row.
alter table {schema}.event_keys enable row level security;
alter table {schema}.events enable row level security;
create policy tenant on {schema}.event_keys
    using (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid));
create policy tenant on {schema}.events
    using (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid));
create policy processor on {schema}.event_keys for select
    using ((select current_setting('pulsestream.processor', true) = 'on'));
create policy processor on {schema}.events for select
    using ((select current_setting('pulsestream.processor', true) = 'on'));

-- Makes the partition from `starts` to `ends`, and moves there what was stored elsewhere before.
create function {schema}.ensure_partition(starts timestamptz, ends timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    name text := 'events_' || to_char(starts at time zone 'UTC', 'YYYYMMDD');
begin
    if to_regclass('{schema}.' || name) is not null then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('{schema}.ensure_partition', 0));
    if to_regclass('{schema}.' || name) is not null then
        return false;
    end if;
    lock table {schema}.events in share row exclusive mode;
    execute format('create table {schema}.%I (like {schema}.events including defaults)', name);
    execute format(
        'with moved as (delete from {schema}.events_other where "timestamp" >= %L and "timestamp" < %L returning *) '
        'insert into {schema}.%I select * from moved', starts, ends, name);
    execute format(
        'alter table {schema}.events attach partition {schema}.%I for values from (%L) to (%L)', name, starts, ends);
    return true;
end
$$;

-- Drops the partitions that end at or before `before` and hold nothing of any tenant.
create function {schema}.drop_empty_partitions(before timestamptz) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    name text;
    used boolean;
    dropped integer := 0;
begin
    for name in
        select child.relname from pg_inherits
        join pg_class child on child.oid = pg_inherits.inhrelid
        where pg_inherits.inhparent = '{schema}.events'::regclass and child.relname ~ '^events_[0-9]{8}$'
          and to_date(substr(child.relname, 8), 'YYYYMMDD') + 7 <= (before at time zone 'UTC')::date
        order by child.relname
    loop
        -- Without the lock first: most are in use, and looking is free.
        execute format('select exists (select from {schema}.%I)', name) into used;
        if not used then
            begin
                execute format('lock table {schema}.events in access exclusive mode nowait');
                execute format('select exists (select from {schema}.%I)', name) into used;
                if not used then
                    execute format('drop table {schema}.%I', name);
                    dropped := dropped + 1;
                end if;
            exception when lock_not_available then
                return dropped;
            end;
        end if;
    end loop;
    return dropped;
end
$$;

revoke all on function {schema}.ensure_partition(timestamptz, timestamptz) from public;
revoke all on function {schema}.drop_empty_partitions(timestamptz) from public;
