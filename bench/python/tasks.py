"""The tasks for Celery, and how it keeps them.

They lie in a quorum queue, are acked after their results are stored, and are
published with confirms: the promises that Lovage makes.
"""
import hashlib
import itertools
import os
import time

from celery import Celery
from kombu import Connection, Queue

# A quorum queue takes no prefetch that consumers share. This Celery asks for one
# unless it believes that there is no such thing.
Connection.qos_semantics_matches_spec = True

KIND = os.environ.get("BENCH_KIND", "noop")
BYTES = int(os.environ.get("BENCH_BYTES", "0"))
BUSY = float(os.environ.get("BENCH_BUSY", "0"))
QUEUE = os.environ["BENCH_QUEUE"]
# Tasks that a worker may hold: many, as is advised for short ones.
PREFETCH = 128
FAILS_EVERY = 20
BLOCK = 64 << 10

app = Celery("bench", broker=os.environ["BENCH_AMQP_URL"], backend=os.environ["BENCH_REDIS_URL"])
app.conf.update(
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": "quorum"})],
    broker_transport_options={"confirm_publish": True},
    broker_pool_limit=40,  # as many as FastAPI has threads
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=max(1, PREFETCH // int(os.environ.get("BENCH_SLOTS", "1"))),
    worker_max_tasks_per_child=None,
    task_send_sent_event=False,
    worker_send_task_events=False,
    result_expires=24 * 3600,
)

serial = itertools.count(1)


@app.task(bind=True, name="bench", max_retries=3)
def bench(self, duration, pad=""):
    """Does what the tasks of the kind do."""
    if KIND == "pickup":
        begun = time.time()
        time.sleep(BUSY)
        return begun
    if KIND == "sleep":
        time.sleep(0.001)
    elif KIND == "cpu":
        work = hashlib.sha256()
        for _ in range(0, BYTES, BLOCK):
            work.update(bytes(BLOCK))
    elif KIND == "retry" and self.request.retries == 0 and next(serial) % FAILS_EVERY == 0:
        raise self.retry(countdown=1)
    return {}
