"""`python -m msp_service_registry`."""

from msp_common import serving
from msp_service_registry.app import build
from msp_service_registry.settings import ServiceRegistrySettings


def main() -> None:
    """Serve until told to stop."""
    serving.run(
        "service-registry",
        ServiceRegistrySettings,
        build,
        listens=lambda s: (s.host, [s.port]),
        # Watchers never finish by themselves, and everything else is answered within this.
        grace_s=1,
    )


if __name__ == "__main__":
    main()
