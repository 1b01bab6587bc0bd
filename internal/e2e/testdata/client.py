"""A Celery client whose tasks are run by a worker of ours. Prints what it got."""
import base64
import datetime
import json
import os
import time
import zlib

from celery import Celery
from celery.exceptions import TaskRevokedError
from kombu import Exchange, Queue

app = Celery(broker=os.environ["LOVAGE_AMQP_URL"], backend=os.environ["LOVAGE_REDIS_URL"])
# Our queues are declared by our workers: a declaration of Celery's own would
# ask for other arguments and be refused with 406.
app.conf.task_queues = [Queue("interop", Exchange("", no_declare=True), no_declare=True)]
app.conf.task_default_queue = "interop"
app.conf.task_create_missing_queues = False

got = {}


def call(name, *args, **options):
    headers = options.pop("headers", None)
    kwargs = options.pop("kwargs", None)
    return app.send_task(name, args=args, kwargs=kwargs, headers=headers, **options)


def case(name, fn):
    try:
        got[name] = fn()
    except Exception as exc:  # what a caller would see
        got[name] = {"type": type(exc).__name__, "args": [str(a) for a in exc.args]}


text = "naïve 日本 \U0001f33f \u0000 \"quoted\""
case("args", lambda: call("interop.echo", 1, [2, {"x": None}]).get(timeout=30))
case("kwargs", lambda: call("interop.echo", kwargs={"a": text, "b": None}).get(timeout=30))
case("float", lambda: call("interop.raw", kwargs={"v": [1.5, 1e300, -0.1, 3.0]}).get(timeout=30))
case("bigint", lambda: call("interop.raw", kwargs={"v": 2**63 + 1}).get(timeout=30))
case("null", lambda: call("interop.raw", kwargs={"v": None}).get(timeout=30))
case("empty", lambda: call("interop.raw", kwargs={"v": [[], {}, ""]}).get(timeout=30))
case("compressed", lambda: call("interop.echo", text, compression="gzip").get(timeout=30)["a"])
# py-amqp writes this header as a type that the Go client library cannot read.
case("long header", lambda: call("interop.echo", 1, headers={"big": 2**40}).get(timeout=30)["a"])
case("exception", lambda: call("interop.fail").get(timeout=30))
case("retry", lambda: call("interop.flaky", 2).get(timeout=30))


def packed():
    """A compressed result is a string to Celery, and this is how to read it."""
    result = call("interop.packed", 200_000)
    return [result.id, json.loads(zlib.decompress(base64.b64decode(result.get(timeout=30)))) == "x" * 200_000]


case("packed", packed)
case("small", lambda: call("interop.packed", 10).get(timeout=30))
case("big", lambda: len(call("interop.big", 200_000).get(timeout=30)))


def eta():
    at = time.time() + 1.5
    when = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
    return call("interop.now", eta=when).get(timeout=30) - at


case("eta", eta)


def expires():
    result = call("interop.now", countdown=1, expires=0.2)
    try:
        return result.get(timeout=30)
    except TaskRevokedError as exc:
        return ["revoked", str(exc), result.state]


case("expires", expires)


def ignored():
    result = call("interop.echo", 1, ignore_result=True)
    call("interop.echo", 2).get(timeout=30)
    time.sleep(0.5)
    return result.state


case("ignore_result", ignored)
case("unknown", lambda: call("interop.nosuch").get(timeout=30))


def many():
    results = [call("interop.echo", n) for n in range(100)]
    return sum(r.get(timeout=30)["a"] for r in results)


case("many", many)
print(json.dumps(got))
