"""The least that Python can do: one Starlette handler, orjson, the forward pass inline."""

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serving_peers.forward import NAMES, PORT, answer, load

model = load()


async def predict(request: Request) -> Response:
    body = orjson.loads(await request.body())
    rows = [[row[name] for name in NAMES] for row in body["rows"]]
    content = orjson.dumps({"predictions": answer(model, rows)})
    return Response(content, media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(
        app, port=PORT, log_level="warning", access_log=False, loop="uvloop", http="httptools"
    )
