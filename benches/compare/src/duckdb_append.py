"""Insert NDJSON files as durable batches of 1,000, one client for each file; print the events per second."""

import pathlib
import sys
import threading
import time

import duckdb

BATCH = 1_000

folder, types, key = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
database = duckdb.connect(str(folder / "compare.duckdb"))
database.execute(f"CREATE TABLE events ({types}{key})")
fields = ", ".join(f"{column.replace(chr(34), chr(39), 2).replace(' ', ': ' + chr(39), 1)}{chr(39)}" for column in types.split(", "))
insert = f"INSERT {'OR IGNORE ' if key else ''}INTO events SELECT * FROM batch"


def batches_of(path):
    query = f"SELECT * FROM read_json('{path}', format = 'newline_delimited', columns = {{{fields}}})"
    table = database.execute(query).to_arrow_table().combine_chunks()
    return [table.slice(start, BATCH) for start in range(0, table.num_rows, BATCH)]


def append(cursor, batches):
    for batch in batches:
        cursor.register("batch", batch)
        cursor.execute(insert)


def rate(clients):
    threads = [threading.Thread(target=append, args=(database.cursor(), batches)) for batches in clients]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(batch.num_rows for batches in clients for batch in batches) / (time.perf_counter() - started)


print(rate([batches_of(path) for path in folder.glob("*.ndjson")]))
