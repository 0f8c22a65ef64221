"""What one writes by hand in FastAPI: pydantic in, a ``def`` endpoint, a response model."""

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.serving_peers.forward import NAMES, PORT, answer, load

app = FastAPI()
model = load()


class Row(BaseModel):
    x0: float
    x1: float
    x2: float
    x3: float
    x4: float
    x5: float
    x6: float
    x7: float


class Question(BaseModel):
    rows: list[Row]


class Answer(BaseModel):
    predictions: list[float]


@app.post("/predict", response_model=Answer)
def predict(question: Question) -> Answer:
    rows = [[getattr(row, name) for name in NAMES] for row in question.rows]
    return Answer(predictions=answer(model, rows))


if __name__ == "__main__":
    uvicorn.run(
        app, port=PORT, log_level="warning", access_log=False, loop="uvloop", http="httptools"
    )
