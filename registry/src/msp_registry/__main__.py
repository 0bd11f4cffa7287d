"""`python -m msp_registry`: serve the registry."""

from msp_common import serving
from msp_registry.allocator import keep_freed_chunks
from msp_registry.app import create_app
from msp_registry.settings import RegistrySettings

if __name__ == "__main__":
    keep_freed_chunks()
    serving.run(
        "registry", RegistrySettings, create_app, listens=lambda settings: (settings.host, [settings.port])
    )
