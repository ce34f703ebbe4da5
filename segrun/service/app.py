"""What is answered at which address."""

import functools
import time
from typing import Any, Literal, Optional

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from segrun.segmenter import Segmenter
from segrun.service import served_network
from segrun.service.answers import ErrorAnswer, predicted
from segrun.service.counters import KIND, Metrics
from segrun.service.intake import Intake, body_of
from segrun.service.limits import Limits, Refused, address_of, check_kind
from segrun.service.origins import ANY, Door, Origins
from segrun.service.start_page import HEADERS, HTML
from segrun.service.worker import Worker


def make(segmenter: Segmenter, worker: Worker, limits: Limits, metrics: Metrics, origins: Origins) -> FastAPI:
    """The app around a network.

    Args:
        segmenter: around the network.
        worker: of the thread that it was loaded in.
        origins: that may ask.
    """
    predictions = Predictions(segmenter, worker, limits, metrics)
    # Its pages of documentation ask for files from elsewhere.
    app = FastAPI(title="paddleseg_encnet", docs_url=None, redoc_url=None)

    @app.head("/", include_in_schema=False)
    @app.get("/")
    async def page() -> Response:
        return Response(HTML, media_type="text/html; charset=utf-8", headers=HEADERS)

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> Any:
        if worker.stuck():
            return ErrorAnswer(Refused(503, "a prediction does not end"))
        return {"status": "ok"}

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(metrics.text(worker.waiting), media_type=KIND)

    @app.post("/predict")
    async def predict(request: Request, format: Optional[Literal["png", "json"]] = None,
                      picture: bool = False) -> Response:
        """The body is an image's bytes. The answer is a PNG whose pixel values are class ids, or JSON, by `format` or
        the Accept header; with `picture` the JSON has the PNG in it, in base64."""
        accepted = request.headers.get("accept", "")
        as_json = format == "json" or format is None and "application/json" in accepted and "image/" not in accepted
        return await predictions.counted(request, as_json, picture)

    app.add_exception_handler(HTTPException, wrong_address)
    app.add_exception_handler(RequestValidationError, wrong_query)
    app.add_exception_handler(Exception, own_fault)
    if origins.any or origins.allowed:      # so that their pages may read the answers too
        app.add_middleware(CORSMiddleware, allow_origins=[ANY] if origins.any else origins.allowed, allow_methods=["*"],
                           allow_headers=["*"], expose_headers=["Server-Timing", "Retry-After"])
    # The last one that is added is asked first.
    app.add_middleware(Door, origins=origins, metrics=metrics)
    return app


class Predictions:
    """What POST /predict does; the arguments are those of make()."""

    def __init__(self, segmenter: Segmenter, worker: Worker, limits: Limits, metrics: Metrics):
        self.segmenter, self.worker, self.limits, self.metrics = segmenter, worker, limits, metrics
        self.intake = Intake(limits)

    async def counted(self, request: Request, as_json: bool, picture: bool) -> Response:
        start, status = time.perf_counter(), "500"
        try:
            response = await self.answer(request, as_json, picture)
            status = str(response.status_code)
        except ClientDisconnect:        # within its body; nobody reads this
            response, status = ErrorAnswer(Refused(400, "the body ended before its end")), "400"
        except Gone:
            response, status = Response(), "gone"
        finally:
            self.metrics.count(status, time.perf_counter() - start)
        return response

    async def answer(self, request: Request, as_json: bool, picture: bool) -> Response:
        """Raises ClientDisconnect, or Gone, where the client has left."""
        try:
            check_kind(request)
            address = address_of(request.client)
            self.worker.check(address)      # else its body would come for nothing
            data = await body_of(request, self.limits, self.intake, address)
            with self.worker.place(address) as place:
                work = functools.partial(served_network.answer, self.segmenter, data, self.limits, as_json, picture)
                found = await self.worker.run(place, work, request.is_disconnected)
        except Refused as refused:
            return ErrorAnswer(refused)
        if found is None:
            raise Gone
        for step, seconds in found.seconds.items():
            self.metrics.steps[step].add(seconds)
        return predicted(*found)


class Gone(Exception):
    """The client left while its request waited."""


async def wrong_address(request: Request, error: HTTPException) -> Response:
    answer = ErrorAnswer(Refused(error.status_code, f"{request.method} {request.url.path[:80]}: {error.detail}; there "
                                 "are GET /, /healthz, /metrics and POST /predict"))
    answer.headers.update(error.headers or {})
    return answer


async def wrong_query(request: Request, error: RequestValidationError) -> Response:
    wrong = error.errors()[0]
    return ErrorAnswer(Refused(400, f"{wrong['loc'][-1]}: {wrong['msg']}, not {str(wrong['input'])[:80]!r}"))


async def own_fault(request: Request, error: Exception) -> Response:
    """uvicorn writes the trace to stderr."""
    return ErrorAnswer(Refused(500, "the service failed at this request; what it writes to stderr says where"))
