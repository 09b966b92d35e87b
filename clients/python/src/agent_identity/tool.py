"""What comes of a call of a tool."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConsentRequired, ToolError


@dataclass(frozen=True)
class ToolResult:
    """What a tool answered, whatever its status. The credential is not in it."""

    status_code: int
    """The HTTP status."""
    headers: Mapping[str, str]
    """The headers, by names in lower case."""
    body: str
    """The body as text; in base64 where it is no text."""
    is_base64_encoded: bool = False
    """Whether the body is in base64."""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> ToolResult:
        """What InvokeTool answered.

        Raises:
            ConsentRequired: the user must consent first.
            ToolError: the tool could not be called, or did not answer.
        """
        if "error" in answer:
            raise ToolError(answer["error"]["code"], answer["error"]["message"])
        if "authorizationUrl" in answer:
            raise ConsentRequired(answer["authorizationUrl"], answer["sessionUri"])
        return cls(
            status_code=answer["statusCode"],
            headers=answer.get("headers", {}),
            body=answer.get("body", ""),
            is_base64_encoded=answer.get("isBase64Encoded", False),
        )

    @property
    def ok(self) -> bool:
        """Whether the status is one of success (2xx)."""
        return 200 <= self.status_code < 300

    @property
    def content(self) -> bytes:
        """The body as bytes."""
        return base64.b64decode(self.body) if self.is_base64_encoded else self.body.encode()

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.content)
