"""How lines are sent, which schemathesis does not know, and whom a store is embedded anew by: nobody."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    items = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(item) for item in items).encode()


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if case.operation.path == "/v1/reembed" and isinstance(body, dict) and "url" in body:
        if isinstance(body["url"], str) and body["url"].startswith("http"):
            # Nobody listens there: the model is never changed, and no other host is asked.
            case.body = {**body, "url": "http://127.0.0.1:9/v1"}
