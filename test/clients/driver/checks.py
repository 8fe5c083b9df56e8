"""How a driver tells what it found: one line of JSON for each check, read by `test/clients/suite.ts`."""

import asyncio
import inspect
import json
import os

url = os.environ["SWITCHYARD_URL"]
api_key = os.environ["SWITCHYARD_API_KEY"]
models = os.environ["SWITCHYARD_MODELS"].split(",")
base = os.environ["SWITCHYARD_BASE"]
adapter = os.environ["SWITCHYARD_ADAPTER"]
plain_answer = os.environ["SWITCHYARD_PLAIN_ANSWER"]
# One for all checks: clients keep connections, which belong to it.
loop = asyncio.new_event_loop()


def check(name, run):
    """Runs one check; a failure is told, and the next one runs."""
    try:
        result = run()
        if inspect.isawaitable(result):
            loop.run_until_complete(result)
        line = {"check": name, "ok": True}
    except Exception as error:
        line = {"check": name, "ok": False, "error": f"{type(error).__name__}: {error}"[:600]}
    print(json.dumps(line), flush=True)


def thrown_by(run):
    """What was thrown."""
    try:
        run()
    except Exception as error:
        return error
    raise AssertionError("nothing was thrown")
