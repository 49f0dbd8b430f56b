"""The bases of what is sent and received."""

from pydantic import BaseModel, ConfigDict, field_validator

from alignloop.data.unstorable import UNSTORABLE


class Sent(BaseModel):
    """Common behaviour: frozen, and refusing unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class Received(Sent):
    """Input: refuses texts that databases cannot store."""

    @field_validator("*")
    @classmethod
    def _can_be_kept(cls, value: object) -> object:
        if isinstance(value, str) and UNSTORABLE.search(value):
            raise ValueError("the text contains NUL, or half a character (a lone surrogate)")
        return value
