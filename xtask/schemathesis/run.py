"""Runs schemathesis with all its checks against a server of this repository, as each kind of caller.

Started by `cargo xtask schemathesis`, which gives the path of the program `pulsestream`. Ends with 1 when a check fails.
"""

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).parent
PASSWORD = "a long enough secret"

# What ends the session or the key that the run itself needs; a run of their own comes last.
ENDS_CREDENTIALS = r"/auth/(logout|change-password)|regenerate-api-key"
# What is there until somebody has an account.
SETUP = ["--include-path-regex", "/setup"]
# Answers without an end, which schemathesis waits for.
ENDLESS = r"/ws/|/events/stream$"


class Server:
    """The program, in memory, without a rate limit."""

    def __init__(self, program):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = "127.0.0.1:%d" % free.getsockname()[1]
        command = [program, "--log", "error", "serve", "--store", "memory:", "--rate-limit", "off"]
        self.process = subprocess.Popen([*command, "--listen", self.address], stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                return self.call("GET", "/health") and None
            except urllib.error.URLError:
                time.sleep(0.1)
        raise SystemExit("the server did not start")

    def call(self, method, path, body=None, token=None, key=None):
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = "Bearer " + token
        if key:
            headers["x-api-key"] = key
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request("http://%s%s" % (self.address, path), data, headers, method=method)
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def login(self, email, password):
        body = {"email": email, "password": password, "tenant_slug": "probe"}
        return self.call("POST", "/api/v1/auth/login", body)["access_token"]


def prepare(server):
    """Makes a tenant with people, keys, and something of everything; returns credentials and the ids of things."""
    body = {"name": "Probe", "slug": "probe", "contact_email": "owner@probe.example"}
    made = server.call("POST", "/api/v1/auth/register/tenant", body)
    first = server.login("owner@probe.example", made["owner_user"]["temporary_password"])
    people = {}
    for role in ("owner", "viewer", "leaver"):
        email = role + "2@probe.example"
        person = {"email": email, "password": PASSWORD, "full_name": role.title(), "role": "owner"}
        person["role"] = "viewer" if role == "viewer" else "owner"
        server.call("POST", "/api/v2/users", person, token=first)
        people[role] = server.login(email, PASSWORD)
    owner = people["owner"]
    key = server.call("POST", "/api/v2/keys", {"name": "ingest", "scopes": ["events:write"]}, token=owner)
    spare = server.call("POST", "/api/v2/keys", {"name": "spare", "scopes": ["events:read"]}, token=owner)
    person = {"email": "spare@probe.example", "password": PASSWORD, "full_name": "Spare"}
    person = server.call("POST", "/api/v2/users", person, token=owner)
    channel = server.call("POST", "/api/v2/channels", {"name": "seed", "config": {"type": "log"}}, token=owner)
    rule = {"name": "seed", "severity": "high", "condition": {"type": "count", "min_count": 1}}
    rule = server.call("POST", "/api/v1/alerting/rules", {**rule, "notification_channels": ["seed"]}, token=owner)
    source = {"service": "shop", "endpoint": "/", "method": "GET"}
    event = {"event_id": "seed", "event_type": "api_call", "title": "t", "source": source}
    server.call("POST", "/api/v1/ingestion/events", event, token=owner)
    server.call("POST", "/api/v1/alerting/rules/%s/test" % rule["rule_id"], token=owner)
    silence = {"matchers": [{"label": "rule", "op": "=", "value": "x"}], "ends_at": "2100-01-01T00:00:00Z"}
    silence = server.call("POST", "/api/v2/silences", silence, token=owner)
    test = server.call("POST", "/api/v2/channels/%s/test" % channel["id"], token=owner)
    alerts = server.call("GET", "/api/v2/alerts", token=owner)["alerts"]
    ids = {
        "event_id": "seed",
        "rule_id": rule["rule_id"],
        "alert_id": alerts[0]["id"],
        "silence_id": silence["id"],
        "channel_id": channel["id"],
        "delivery_id": test["delivery_id"],
        "key_id": spare["info"]["id"],
        "user_id": person["id"],
    }
    return {**people, "ingest": key["key"]}, ids


def run(command, config, server, version, name, header, options, examples, seed):
    parameters = [
        "http://%s/api/%s/openapi.json" % (server.address, version),
        "--continue-on-failure", "--max-examples", str(examples), "--seed", str(seed),
        "--request-timeout", "10", "--suppress-health-check", "all", "--output-truncate", "false",
        "--warnings", "off", "-H", header, *options,
    ]
    print("==> %s as %s" % (version, name), flush=True)
    words = [command, "--config-file", config, "run", *parameters]
    outcome = subprocess.run(words, cwd=config.parent, text=True, capture_output=True)
    log = outcome.stdout + outcome.stderr
    print(log if outcome.returncode else "\n".join(log.splitlines()[-14:]), flush=True)
    return outcome.returncode == 0


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--program", required=True)
    arguments.add_argument("--command", required=True)
    arguments.add_argument("--examples", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    server = Server(given.program)
    try:
        config = (HERE / "schemathesis.toml").read_text()
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "schemathesis.toml"
            file.write_text(config)
            # Before there is anybody: the page and the call that make the first administrator.
            passed = True
            for version in ("v1", "v2"):
                parts = (given.command, file, server, version, "the first visitor", "X-Nobody: 1", SETUP)
                passed &= run(*parts, given.examples, given.seed)
            credentials, ids = prepare(server)
            config += "\n[parameters]\n" + "".join('"path.%s" = ["%s"]\n' % pair for pair in ids.items())
            file.write_text(config)
            # Who shows a key and may not do what is asked gets 403 where the check wants 401 for lack of a token.
            without = ["--exclude-checks", "missing_required_header"]
            for name, header, options in [
                ("viewer", "Authorization: Bearer " + credentials["viewer"], []),
                ("ingest-only key", "X-API-Key: " + credentials["ingest"], without),
                ("nobody", "X-Nobody: 1", []),
                ("owner", "Authorization: Bearer " + credentials["owner"], []),
            ]:
                for version in ("v1", "v2"):
                    chosen = [*options, "--exclude-path-regex", "%s|%s" % (ENDS_CREDENTIALS, ENDLESS)]
                    parts = (given.command, file, server, version, name, header, chosen)
                    passed &= run(*parts, given.examples, given.seed)
            paths = ["--include-path-regex", ENDS_CREDENTIALS]
            header = "Authorization: Bearer " + credentials["leaver"]
            parts = (given.command, file, server, "v1", "somebody who leaves", header, paths)
            passed &= run(*parts, given.examples, given.seed)
            server.call("GET", "/health")
    finally:
        server.process.terminate()
        code = server.process.wait(30)
    print("the server ended with %d" % code)
    sys.exit(0 if passed and code == 0 else 1)


if __name__ == "__main__":
    main()
