"""The hub's protocol, read-only, so that stock clients work with `HF_ENDPOINT` set to the registry.

To be included behind the registry's other routes: it takes all of `/api/`.
"""

from fastapi import APIRouter

from msp_registry.routes.hub import info, other, resolve, tree

router = APIRouter()
for routes in (info, tree, resolve, other):
    router.include_router(routes.router)
