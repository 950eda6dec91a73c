"""An identity provider on a loopback port: it publishes the public halves of its pairs, and signs tokens with the others."""

import json
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

_BITS = 2048
_DEADLINE_S = 10.0


class IdentityProvider:
    """`with IdentityProvider() as provider: ...`; `asked` counts how often somebody wanted its keys."""

    def __init__(self) -> None:
        self.asked = 0
        self._pairs = {name: rsa.generate_private_key(65537, _BITS) for name in ("published", "withheld")}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="identity-provider", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/keys"

    def token(self, sub: str, *, roles: Sequence[str] = (), key: str = "published") -> str:
        claims = {"sub": sub, "roles": list(roles), "exp": int(time.time()) + 600}
        return jwt.encode(claims, self._pairs[key], algorithm="RS256", headers={"kid": key})

    def go_away(self) -> None:
        """Stop answering, as a provider does on a bad day."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(_DEADLINE_S)
        self._server.server_close()

    def _document(self) -> bytes:
        public: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._pairs["published"].public_key()))
        return json.dumps({"keys": [public | {"kid": "published", "use": "sig", "alg": "RS256"}]}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                body = provider._document()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """Be quiet."""

        return Handler

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.go_away()
