"""Reads an exported Parquet file with DuckDB and Polars, and compares both with the NDJSON export of the same events.

    pulsestream export --store ./events --tenant shop -o events.parquet
    pulsestream export --store ./events --tenant shop -o events.ndjson
    pip install duckdb polars
    python3 pulsestream-parquet/tests/readers.py events.parquet events.ndjson rewritten.parquet

It also lets DuckDB write the rows to a third file, which `pulsestream import` must find to be the same events.
"""

import json
import sys
from collections import Counter
from datetime import datetime, timezone

import duckdb
import polars

parquet, ndjson, rewritten = sys.argv[1:]
events = [json.loads(line, parse_float=str) for line in open(ndjson, encoding="utf-8")]
by_id = {event["id"]: event for event in events}


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


# The same questions, asked of the lines.
count = len(events)
services = Counter(event["source"].get("service") for event in events)
failed = sum(1 for event in events if event["metrics"].get("status_code", 0) >= 500)
first = min(instant(event["timestamp"]) for event in events)
times = [float(event["metrics"]["response_time_ms"]) for event in events if "response_time_ms" in event["metrics"]]

# DuckDB
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
types = {name: kind for name, kind, *_ in db.execute(f"describe select * from '{parquet}'").fetchall()}
expected = {
    "id": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE", "response_time_ms": "DOUBLE",
    "status_code": "USMALLINT", "request_size_bytes": "BIGINT", "cache_hit": "BOOLEAN", "payload": "VARCHAR",
}
assert {name: types[name] for name in expected} == expected, types
found = db.execute(f"select count(*), count(*) filter (status_code >= 500), sum(response_time_ms) from '{parquet}'").fetchone()
assert found[:2] == (count, failed), found
assert abs(found[2] - sum(times)) < 1e-6 * abs(sum(times)), found
assert dict(db.execute(f"select service, count(*) from '{parquet}' group by 1").fetchall()) == dict(services)
earliest = db.execute(f"select epoch_us(min(timestamp)) from '{parquet}'").fetchone()[0]
assert earliest == round(first.timestamp() * 1_000_000), earliest
for id, payload, tags in db.execute(f"select id, payload, tags from '{parquet}'").fetchall():
    event = by_id[id]
    assert json.loads(payload or "{}", parse_float=str) == event["payload"], id
    assert json.loads(tags or "{}") == event["context"].get("tags", {}), id
paths = db.execute(f"select count(*) from '{parquet}' where json_extract_string(payload, '$.plan') is not null").fetchone()[0]
assert paths == sum(1 for event in events if event["payload"].get("plan") is not None)
db.execute(f"copy (select * from '{parquet}') to '{rewritten}' (format parquet)")

# Polars
frame = polars.read_parquet(parquet)
assert frame.height == count
assert frame.schema["timestamp"] == polars.Datetime("us", "UTC"), frame.schema
assert frame.schema["status_code"] == polars.UInt16 and frame.schema["payload"] == polars.String, frame.schema
assert frame.filter(polars.col("status_code") >= 500).height == failed
assert dict(frame.group_by("service").len().iter_rows()) == dict(services)
assert frame["timestamp"].min() == first
assert set(frame["id"]) == set(by_id)
lazy = polars.scan_parquet(parquet).filter(polars.col("severity") == "error").select("id").collect()
assert lazy.height == sum(1 for event in events if event["severity"] == "error")

print(f"{count} events: DuckDB {duckdb.__version__} and Polars {polars.__version__} read what was written")
