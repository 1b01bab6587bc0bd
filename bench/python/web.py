"""Takes tasks over HTTP, with FastAPI, for Celery."""
import time

from fastapi import FastAPI
from pydantic import BaseModel

from tasks import bench

app = FastAPI()


class Input(BaseModel):
    duration: int
    pad: str = ""


@app.post("/submit", status_code=202)
def submit(task: Input):
    return {"task_id": bench.apply_async(kwargs={"duration": task.duration, "pad": task.pad}).id}


@app.post("/run")
def run(task: Input):
    result = bench.apply_async(kwargs={"duration": task.duration, "pad": task.pad})
    while not result.ready():
        time.sleep(0.005)
    return {"task_id": result.id}
