"""Who asks, and whether the request may be worked on now."""

from msp_gateway.admission.identity import ANONYMOUS, Identity, allowed
from msp_gateway.admission.interfaces import Admission, Ask, Authenticator, Place, Progress, TellWaiting
from msp_gateway.admission.open import OpenAdmission, OpenAuthenticator, OpenPlace
from msp_gateway.admission.outgoing import Outgoing, wants_events

__all__ = [
    "ANONYMOUS",
    "Admission",
    "Ask",
    "Authenticator",
    "Identity",
    "OpenAdmission",
    "OpenAuthenticator",
    "OpenPlace",
    "Outgoing",
    "Place",
    "Progress",
    "TellWaiting",
    "allowed",
    "wants_events",
]
