"""The routes that are plain ASGI, which FastAPI does not see: predictions in every dialect."""

from typing import Any

_FILES = {
    media: {"schema": {"type": "string", "format": "binary"}}
    for media in (
        "text/csv",
        "application/x-ndjson",
        "application/vnd.apache.parquet",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.arrow.file",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.oasis.opendocument.spreadsheet",
        "application/zip",
    )
}
_TABLES = {media: _FILES[media] for media in ("text/csv", "application/vnd.apache.arrow.stream")}
_ANY_VALUES = {"type": "array", "items": {"type": "array", "items": {}}}
_ROWS = {"type": "array", "items": {"type": "object"}}
_COLUMNS = {"type": "object", "additionalProperties": {"type": "array", "items": {}}}
_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"type": "array", "items": {}},
        "parameters": {"type": ["object", "null"]},
    },
}


SCHEMAS: dict[str, Any] = {}


def _object(name: str, description: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "description": description}
    SCHEMAS[name] = {"title": name, **schema, "x-optional": list(properties)}
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def _path(name: str, description: str = "") -> dict[str, Any]:
    schema = {"type": "string", "description": description} if description else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, kind: str, description: str) -> dict[str, Any]:
    schema = {"type": kind, "description": description}
    return {"name": name, "in": "query", "required": False, "schema": schema}


def _operation(
    name: str,
    tag: str,
    summary: str,
    body: dict[str, Any],
    answer: dict[str, Any],
    *parameters: Any,
) -> dict[str, Any]:
    return {
        "post": {
            "operationId": name,
            "tags": [tag],
            "summary": summary,
            "parameters": list(parameters),
            "requestBody": {"required": True, "content": body},
            "responses": {"200": {"description": "Successful Response", "content": answer}},
        }
    }


_PREDICTIONS = _object(
    "Predictions",
    "One prediction a row.",
    object={"type": "string", "const": "predictions"},
    model={"type": "string"},
    version={"type": "integer"},
    predictions={"type": "array", "items": {}},
    probabilities=_ROWS,
    intervals=_ROWS,
    sets=_ANY_VALUES,
    explanations=_ROWS,
)
_INFER = (
    "inference protocol",
    "Outputs for tensors, as JSON or as binary data.",
    {
        "application/json": _object(
            "InferRequest",
            "Tensors by name.",
            id={"type": "string"},
            inputs={"type": "array", "items": _TENSOR},
            outputs={"type": ["array", "null"], "items": {"type": "object"}},
            parameters={"type": ["object", "null"]},
        ),
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
    {
        "application/json": _object(
            "InferResponse",
            "Tensors by name.",
            model_name={"type": "string"},
            model_version={"type": "string"},
            outputs={"type": "array", "items": _TENSOR},
        )
    },
)

_JSON_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "bytes of the JSON before binary data; left out: all is JSON",
    "schema": {"type": "string"},
}

PATHS: dict[str, Any] = {
    "/v1/models/{ref}/predict": _operation(
        "predict",
        "models",
        "Predictions for rows, columns, instances, or a file.",
        {
            "application/json": _object(
                "PredictRequest",
                "One of rows, columns and instances.",
                rows=_ROWS,
                columns=_COLUMNS,
                instances=_ANY_VALUES,
            ),
            **_FILES,
        },
        {"application/json": _PREDICTIONS, **_TABLES},
        _path("ref", "name (newest version), name@3, name@alias or id"),
        _query("probabilities", "boolean", "classification: of every class"),
        _query(
            "interval",
            "number",
            "a level such as 0.9: intervals of a regression, or sets of classes, that hold what is "
            "true so often",
        ),
        _query(
            "explain",
            "integer",
            "how many features to name by what they add to the prediction (of classes to the logit "
            "of the answer); the others are their sum",
        ),
        _query("format", "string", "of the answer, before Accept: json, csv or arrow"),
        _query("delimiter", "string", "CSV; left out: found in the first line"),
        _query("encoding", "string", "CSV and NDJSON; left out: by its BOM, else UTF-8"),
        _query("header", "boolean", "CSV: whether the first line names the columns"),
        _query("skip_rows", "integer", "CSV: lines before the header"),
        _query("comment", "string", "CSV: how lines above begin that are no rows"),
        _query("sheet", "string", "xlsx and ods; left out: the first with cells"),
        _query("on_error", "string", "CSV: refuse or missing: cells that do not fit their feature"),
    ),
    "/v2/models/{name}/infer": _operation(
        "infer", *_INFER, _path("name", "a model reference"), _JSON_LENGTH
    ),
    "/v2/models/{name}/versions/{version}/infer": _operation(
        "infer_version", *_INFER, _path("name"), _path("version"), _JSON_LENGTH
    ),
    "/invocations": _operation(
        "invocations",
        "MLflow scoring",
        "Predictions of the model in FITSERVE_DEFAULT_MODEL.",
        {
            "application/json": _object(
                "Invocation",
                "One of dataframe_split, dataframe_records, instances and inputs.",
                dataframe_split={"type": "object"},
                dataframe_records=_ROWS,
                instances={},
                inputs={},
            ),
            "text/csv": _FILES["text/csv"],
        },
        {
            "application/json": _object(
                "InvocationResult",
                "One prediction a row.",
                predictions={"type": "array", "items": {}},
            )
        },
    ),
}
