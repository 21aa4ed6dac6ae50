"""What the gateway refuses or fails to do, in words for the client. The door alone turns these into HTTP answers.

    Refusal
    ├── BadRequest, NotFound, MethodNotAllowed, RequestTimedOut, TooLarge, NotJson, Forbidden
    ├── NoEndpoint, RateLimited, Overloaded, StoreAway        nothing can serve it now; each says when to come back
    └── UpstreamFailed, UpstreamAuthFailed, UpstreamTimedOut        everything that could be tried was tried

Messages say what to do; they hold no secret, no upstream URL and nothing an upstream said.
"""

import math


class Refusal(Exception):
    """Becomes {"error": {"message", "type", "param", "code"}} with `status`."""

    status = 500
    code: str | None = None
    kind = "server_error"  # OpenAI's `type`
    closes = False  # whether the connection ends with it: more of the request may be on its way

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code
        self.retry_after = None if retry_after_s is None else max(1, math.ceil(retry_after_s))  # whole seconds
        self.after_attempt = False  # an upstream was asked: the client's own retry would multiply ours
        self.endpoint_header: tuple[bytes, bytes] | None = None  # of the endpoint that was asked last
        self.attempts = 0
        self.cache: tuple[bytes, bytes] | None = None  # the header line, of a request that was looked up


class BadRequest(Refusal):
    """400: `invalid_json`, `model_required`, `previous_response_not_found`."""

    status = 400
    kind = "invalid_request_error"


class NotFound(Refusal):
    """404: `model_not_found`, `unknown_route`."""

    status = 404
    kind = "invalid_request_error"


class MethodNotAllowed(Refusal):
    """405; `allowed` becomes the Allow header."""

    status = 405
    code = "method_not_allowed"
    kind = "invalid_request_error"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"Method {method} is not allowed here. Use {' or '.join(allowed)}.")
        self.allowed = allowed


class RequestTimedOut(Refusal):
    """408: the body came too slowly."""

    status = 408
    code = "request_timeout"
    kind = "invalid_request_error"
    closes = True


class TooLarge(Refusal):
    """413."""

    status = 413
    code = "request_too_large"
    kind = "invalid_request_error"


class NotJson(Refusal):
    """415."""

    status = 415
    code = "unsupported_media_type"
    kind = "invalid_request_error"


class Forbidden(Refusal):
    """403: `forbidden_origin`."""

    status = 403
    code = "forbidden_origin"
    kind = "permission_error"


class NoEndpoint(Refusal):
    """503: every endpoint that could serve is out."""

    status = 503
    code = "no_endpoint_available"


class RateLimited(Refusal):
    """429: every endpoint that could serve is out because of a rate limit."""

    status = 429
    code = "rate_limit_exceeded"
    kind = "rate_limit_error"


class StoreAway(Refusal):
    """503: what an operator asked for needs the store, which did not answer."""

    status = 503
    code = "store_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=1)


class Overloaded(Refusal):
    """503: this worker, or every connection pool it could use, is full."""

    status = 503
    code = "overloaded"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_s=1)


class UpstreamFailed(Refusal):
    """502: no attempt brought an answer that can be passed on."""

    status = 502
    code = "upstream_error"


class UpstreamAuthFailed(Refusal):
    """502: the upstream refused the endpoint's own credentials."""

    status = 502
    code = "upstream_auth_failed"


class UpstreamTimedOut(Refusal):
    """504."""

    status = 504
    code = "upstream_timeout"
