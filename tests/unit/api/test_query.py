"""The query parameters that a route takes are those that the document promises."""

from fastapi.routing import APIRoute

from app.api.app import ROUTERS
from app.api.http.query import query_names
from tests.support.openapi import document


def test_routes_take_what_the_document_names() -> None:
    paths, compared = document()["paths"], 0
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    for route in (route for route in routes if route.include_in_schema):
        for method in route.methods or ():
            parameters = paths[route.path][method.lower()].get("parameters", [])
            promised = [item["name"] for item in parameters if item["in"] == "query"]
            assert sorted(query_names(route)) == sorted(promised), (route.path, method)
            compared += len(promised)
    assert compared > 50
