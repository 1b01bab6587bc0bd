"""Sends tasks at a rate, whether or not those before were taken, and prints the
quantiles of the milliseconds from the confirm of each to its first line."""
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tasks import app, bench

count, rate = int(sys.argv[1]), float(sys.argv[2])


def send():
    task = bench.apply_async(kwargs={"duration": 1}).id
    return task, time.time()


with ThreadPoolExecutor(40) as senders:
    begin, sent = time.time(), []
    for i in range(count):
        time.sleep(max(0, begin + i / rate - time.time()))
        sent.append(senders.submit(send))
    sent = [one.result() for one in sent]

waited = []
for task, confirmed in sent:
    meta = app.backend.get_task_meta(task)
    while meta["status"] != "SUCCESS":
        time.sleep(0.01)
        meta = app.backend.get_task_meta(task)
    waited.append(max(0, meta["result"] - confirmed) * 1000)
waited.sort()
print(json.dumps({name: waited[int(q * (len(waited) - 1))] for name, q in {"p50": 0.5, "p99": 0.99, "max": 1}.items()}))
