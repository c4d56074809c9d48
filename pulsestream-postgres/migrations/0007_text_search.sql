-- Search in titles and messages. {schema} is replaced by the name of the schema.

-- Makes the index that text search uses, and returns whether there is one: not when the extension pg_trgm is missing and cannot
-- be created by this role. Partitions that come later get it by themselves. Appends wait while it is built.
create function {schema}.ensure_text_index() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    place name;
begin
    if to_regclass('{schema}.events_text') is not null then
        return true;
    end if;
    -- Of the whole database: the extension is there once for all schemas.
    perform pg_advisory_xact_lock(hashtextextended('pulsestream.pg_trgm', 0));
    if not exists (select from pg_extension where extname = 'pg_trgm') then
        begin
            create extension pg_trgm with schema public;
        exception when insufficient_privilege or undefined_file or feature_not_supported or invalid_schema_name then
            return false;
        end;
    end if;
    select nspname into place from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
        where extname = 'pg_trgm';
    execute format(
        'create index if not exists events_text on {schema}.events using gin '
        '((lower(coalesce(title, '''') || '' '' || coalesce(message, ''''))) %I.gin_trgm_ops)', place);
    return true;
end
$$;

-- Returns where events of the tenant are whose title or message may hold a text, at most so many, in any order. Under row-level
-- security the index would not be used, because LIKE is not leakproof; so this runs as the owner, and has the tenant from the
-- same setting as the policies.
create function {schema}.text_candidates(patterns text[], starts timestamptz, ends timestamptz, most integer)
returns table (at_time timestamptz, event_id text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set plan_cache_mode = force_custom_plan as $$
declare
    tenant uuid := nullif(current_setting('pulsestream.tenant', true), '')::uuid;
begin
    return query select e."timestamp", e.id from {schema}.events e
        where e.tenant_id = tenant and e."timestamp" >= starts and e."timestamp" < ends
          and lower(coalesce(e.title, '') || ' ' || coalesce(e.message, '')) like any (patterns)
        limit most;
end
$$;

revoke all on function {schema}.ensure_text_index() from public;
revoke all on function {schema}.text_candidates(text[], timestamptz, timestamptz, integer) from public;
