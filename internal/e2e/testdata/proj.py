"""A Celery worker whose tasks are submitted through our gateway."""
import os

from celery import Celery

app = Celery("proj", broker=os.environ["LOVAGE_AMQP_URL"], backend=os.environ["LOVAGE_REDIS_URL"])
app.conf.result_extended = True
app.conf.task_track_started = True


class OutOfStock(Exception):
    pass


@app.task
def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


@app.task
def fail(*args):
    raise OutOfStock(*args)


@app.task(bind=True, default_retry_delay=0.2, max_retries=5)
def flaky(self, n):
    if self.request.retries < n:
        raise self.retry(exc=RuntimeError("attempt %d" % self.request.retries))
    return self.request.retries


@app.task
def big(n):
    return "x" * n


@app.task(bind=True)
def limits(self):
    return {"timelimit": self.request.timelimit, "root": self.request.root_id, "id": self.request.id}


# Celery stores STARTED whether or not anybody wants the result.
@app.task(track_started=False)
def ignored():
    return "unseen"
