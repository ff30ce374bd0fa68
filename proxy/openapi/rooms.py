"""What the rooms of /admin have in common: who is let in, and what a request may be refused for."""

from collections.abc import Iterable
from typing import Any

from proxy.openapi.facts import Facts
from proxy.openapi.parts import Json, answer, asked, body, operation, ref, response, told

SCHEME = "adminToken"


class Room:
    """Operations of one room. `tag` groups them for readers."""

    def __init__(self, tag: str, facts: Facts) -> None:
        self._tag = tag
        self._facts = facts

    def get(
        self,
        operation_id: str,
        summary: str,
        schema: Json,
        *failures: int,
        parameters: Iterable[Json] = (),
        description: str = "",
    ) -> Json:
        responses = {"200": answer(summary + ".", schema), **self._failures(failures)}
        return self._operation(
            operation_id, summary, responses, parameters=parameters, description=description
        )

    def change(
        self,
        operation_id: str,
        summary: str,
        schema: Json,
        *failures: int,
        fields: Json,
        required: Iterable[str] = (),
        one_of: Iterable[Json] = (),
        status: int = 200,
        description: str = "",
        example: object = None,
    ) -> Json:
        """A call that changes something, and lands in the audit list with who and why."""
        more = self._who_and_why()
        schemas = [asked({**one["properties"], **more}, required=one.get("required", ()))
                   for one in one_of]  # fmt: skip
        wanted = {"oneOf": schemas} if schemas else asked({**fields, **more}, required=required)
        is_needed = bool(schemas or tuple(required))
        extra: dict[str, Any] = {} if example is None else {"example": example}
        return self._operation(
            operation_id,
            summary,
            {
                str(status): answer(summary + ".", schema),
                **self._failures((400, 413, *failures)),
            },
            request_body=body(wanted, required=is_needed, **extra),
            description=description,
        )

    def _operation(self, operation_id: str, summary: str, responses: Json, **more: Any) -> Json:
        security: list[Json] = [{SCHEME: []}] if self._facts.has_token else []
        return operation(self._tag, operation_id, summary, responses, security=security, **more)

    def _failures(self, statuses: Iterable[int]) -> Json:
        doors = 401 if self._facts.has_token else 403
        # Where there are several workers, none of them may be there to answer.
        workers = (503,) if self._facts.has_workers else ()
        wanted = sorted({400, doors, 414, 431, *statuses, *workers})
        return {str(status): response(_NAMES[status]) for status in wanted}

    def _who_and_why(self) -> Json:
        text: Json = {"type": ["string", "null"], "maxLength": self._facts.bounds.longest_text}
        return {
            "author": told(text, "Who wants it. Without it: the caller's address."),
            "reason": told(text, "Why."),
        }


_NAMES = {
    400: "BadRequest",
    401: "TokenNeeded",
    403: "Stranger",
    404: "NotFound",
    409: "Conflict",
    413: "AdminBodyTooLarge",
    414: "TargetTooLong",
    431: "HeadTooLong",
    503: "Unavailable",
}


def admin_responses(facts: Facts) -> Json:
    """Components: errors of the admin port."""
    texts = {
        "BadRequest": "The text names what is wrong and what it may be.",
        "Stranger": "Without a token configured, only this machine is let in, and no web page.",
        "NotFound": "There is no such thing, or no longer.",
        "Conflict": "It does not fit the state that it meets. The text says what to do first.",
        "AdminBodyTooLarge": f"The body has more than {facts.bounds.largest_admin_body} bytes.",
        "Unavailable": "What has to be asked or written cannot be reached. Nothing has changed,"
        " unless the text says that this is not known.",
    }
    found = {name: answer(text, ref("Error")) for name, text in texts.items()}
    found["TokenNeeded"] = answer(
        "The admin token is missing or wrong.",
        ref("Error"),
        {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}},
    )
    return found


def security_schemes() -> Json:
    return {
        SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "description": "`PROXY_ADMIN_TOKEN`. Without one /admin answers only this machine.",
        }
    }
