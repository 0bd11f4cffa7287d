"""`python -m msp_gateway`: run the gateway with the settings of the environment."""

import sys

from msp_common.draining import Draining
from msp_common.serving import EXIT_USAGE, listen_or_exit, load_or_exit, serve
from msp_common.settings import SettingsError
from msp_gateway.settings import GatewaySettings


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = load_or_exit(GatewaySettings, "gateway")
    # Before the slow part of the start: who connects meanwhile waits, instead of being refused.
    sockets = listen_or_exit(settings.host, [settings.port])
    from msp_gateway.app import build
    from msp_gateway.direct.protocol import direct_protocol
    from msp_gateway.dispatch import entrance
    from msp_gateway.keys.store import StoreAway
    from msp_gateway.routing_rules import RoutingFileError

    draining = Draining()
    try:
        if settings.tls is not None:
            settings.tls.check()
        app = build(settings, draining)
    except SettingsError as error:
        sys.stderr.write(f"gateway: cannot start, the settings are wrong:\n{error}\n")
        raise SystemExit(EXIT_USAGE) from None
    except RoutingFileError as error:
        sys.stderr.write(f"gateway: cannot start, GATEWAY_ROUTING_FILE is wrong:\n{error}\n")
        raise SystemExit(EXIT_USAGE) from None
    except StoreAway as error:
        sys.stderr.write(f"gateway: cannot start without its API keys: {error}\n")
        raise SystemExit(1) from None
    serve(
        entrance(app),
        sockets,
        grace_s=settings.grace_s,
        protocol=direct_protocol(app.state.short_way, settings.connection_limits),
        still_open=app.state.short_way.still_open,
        tls=settings.tls,
        draining=draining,
    )


if __name__ == "__main__":
    main()
