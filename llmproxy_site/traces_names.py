"""How spans and their attributes are called: OpenTelemetry's semantic conventions for GenAI and HTTP, and our own.

https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

SCOPE = "llmproxy"

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
FIRST_CHUNK_S = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
ERROR_TYPE = "error.type"
STATUS_CODE = "http.response.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"

REQUEST_ID = "llmproxy.request_id"
KEY = "llmproxy.key"
ENDPOINT = "llmproxy.endpoint"
OUTCOME = "llmproxy.outcome"
CACHE = "llmproxy.cache"
ATTEMPTS = "llmproxy.attempts"
COST_USD = "llmproxy.cost_usd"
REVISION = "llmproxy.revision"

_OPERATIONS = {
    "chat/completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_PROVIDERS = {"azure": "azure.ai.openai", "openai": "openai"}


def operation_name(operation: str) -> str:
    """operation: as in a record. What the conventions have no name for keeps its own."""
    return _OPERATIONS.get(operation, operation)


def provider_name(kind: str) -> str:
    """kind: of a `Provider`. Whoever speaks OpenAI's dialect counts as OpenAI, as the conventions want it."""
    return _PROVIDERS[kind]
