"""`python -m msp_gateway`: run the gateway with the settings of the environment."""

from msp_common.serving import run
from msp_gateway.app import build
from msp_gateway.settings import GatewaySettings

GRACE_S = 30.0
"""How long open requests may go on after SIGTERM."""


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    run("gateway", GatewaySettings, build, listens=lambda s: (s.host, [s.port]), grace_s=GRACE_S)


if __name__ == "__main__":
    main()
