"""How getting a model's files may end other than well.

NotYet             it may be had later: the worker waits and tries again
├── SourceAway     the registry gave no answer that says anything about the model
└── NotHeld        the registry does not hold the model
Refused            trying again would not help
"""


class NotYet(Exception):
    """It cannot be had now, but may be later: the worker waits and tries again. The message says why."""


class SourceAway(NotYet):
    """The registry gave no answer that says anything about the model."""


class NotHeld(NotYet):
    """The registry answered that it does not hold the model at this revision."""


class Refused(Exception):
    """Trying again would not help; the message says what is wrong and what to do."""
