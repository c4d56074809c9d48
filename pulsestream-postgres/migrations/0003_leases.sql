-- Who works on what. It belongs to the installation and not to a tenant.
create table {schema}.leases (
    resource text collate "C" primary key,
    holder text collate "C" not null,
    fencing_token bigint not null,
    -- A lease that was given back keeps its row, so that tokens ascend.
    expires_at timestamptz not null
);
