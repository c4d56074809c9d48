-- Small things that a tenant keeps, by name: how its dashboard is laid out, for example.

create table {schema}.documents (
    tenant_id uuid not null,
    name text collate "C" not null,
    body text not null,
    updated_at timestamptz not null,
    primary key (tenant_id, name)
);

alter table {schema}.documents enable row level security;
create policy tenant on {schema}.documents
    using (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('pulsestream.tenant', true), '')::uuid));
