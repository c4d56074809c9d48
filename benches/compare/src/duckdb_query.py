"""Load events.ndjson and small.ndjson, ask the questions of questions.json, print answers and seconds as JSON.

Every question is asked of a table in the order of insertion and of one sorted by tenant and time, and the better time counts.
Statements are prepared, the database is a file, everything is hot, and integers are as narrow as the values allow.
"""

import json
import pathlib
import statistics
import sys
import time
import warnings

import duckdb

RUNS, LONGEST = 200, 2.0

folder = pathlib.Path(sys.argv[1])
asked = json.loads((folder / "questions.json").read_text())
database = duckdb.connect(str(folder / "query.duckdb"))
database.execute(f"SET threads = {asked['threads']}")
database.execute("SET enable_progress_bar = false")
# Results have at most some thousand rows: a copy of them is nothing beside the question.
warnings.filterwarnings("ignore", "Arrow output")

# The tenant is a number, and the paths that our segments have columns for have columns here too.
kinds = {"payload_coupon": "VARCHAR", "payload_total": "DOUBLE"}
kinds |= dict(column.replace('"', "").split(" ") for column in asked["types"].split(", ")) | {"tenant": "BIGINT"}
fields = ", ".join(f"{name}: '{kind}'" for name, kind in kinds.items())
narrow = """* REPLACE (tenant::SMALLINT AS tenant, make_timestamp(timestamp) AS timestamp, make_timestamp(received_at) AS received_at,
           severity::TINYINT AS severity, status_code::SMALLINT AS status_code, cache_hit::BOOLEAN AS cache_hit)"""


def load(table, file):
    source = f"read_json('{folder / file}', format = 'newline_delimited', columns = {{{fields}}})"
    database.execute(f"CREATE TABLE {table} AS SELECT {narrow} FROM {source}")


load("inserted", "events.ndjson")
load("small", "small.ndjson")
database.execute("CREATE TABLE clustered AS SELECT * FROM inserted ORDER BY tenant, timestamp")
for table in ("inserted", "clustered"):
    database.execute(f"CREATE INDEX {table}_id ON {table} (id)")
database.execute("CHECKPOINT")


def run(name, *parameters):
    text = ", ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in parameters)
    return database.execute(f"EXECUTE {name}({text})").to_arrow_table()


def median(work):
    for number in range(len(asked["ids"])):
        work(number)
    seconds, started = [], time.perf_counter()
    while len(seconds) < RUNS and time.perf_counter() - started < LONGEST:
        before = time.perf_counter()
        work(len(seconds))
        seconds.append(time.perf_counter() - before)
    return statistics.median(seconds)


def ask(name, question, sql):
    """Return the answers, and the better of the two tables' times."""
    best = None
    for table in ("inserted", "clustered"):
        name = f"{name}_{table}"
        sql_here = sql.replace("{table}", table).replace("$1", "$1::SMALLINT").replace("$2", "$2::VARCHAR")
        database.execute(f"PREPARE {name} AS {sql_here}")
        extra = lambda number: (asked["ids"][number % len(asked["ids"])],) if question["by_id"] else ()
        tenants = asked["tenants"] if question["in_turn"] else 1
        answers = []
        for tenant in range(tenants):
            found = run(name, tenant, *extra(0))
            found = found.select(["id"]) if question["ids_only"] else found
            answers.append([list(row) for row in zip(*(column.to_pylist() for column in found.columns))])
        one = median(lambda number: run(name, 0, *extra(number)))
        every = median(lambda number: [run(name, tenant) for tenant in range(tenants)]) if question["in_turn"] else 0.0
        if best is None:
            best = [answers, one, every]
        best[1], best[2] = min(best[1], one), min(best[2], every)
    return best


results = []
for index, question in enumerate(asked["questions"]):
    answers, one, every = ask(f"q{index}", question, question["sql"])
    extracted = ask(f"x{index}", question, question["extracting"])[1] if question["extracting"] else None
    results.append({"answers": answers, "one_tenant": one, "all_tenants": every, "extracted": extracted})
print(json.dumps({"version": duckdb.__version__, "results": results}))
